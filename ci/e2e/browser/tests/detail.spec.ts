import { createWorkspace, expect, expectAccessible, ide, pace, preview, removeWorkspaces, restartAgent, stub, test, uniqueName } from "./stack";

test.afterAll(removeWorkspaces);

test.describe("in the middle of provisioning", () => {
  test.use({ quiet: false }); // the browser reports the broken connection
  test.beforeAll(() => pace("1m"));
  test.afterAll(() => pace("0s"));

  test("a reload shows what is true, and a restart of the agent is survived @both", async ({ page }) => {
    await page.goto("/app/workspaces/new/configure");
    await page.getByLabel("Name").fill(uniqueName("middle"));
    await page.getByRole("button", { name: "Create workspace" }).click();
    await expect(page).toHaveURL(/\/app\/workspaces\/[0-9a-z]{25}$/);
    await expect(page.getByText("Creating")).toBeVisible();
    await page.reload();
    await expect(page.getByText("Creating")).toBeVisible();
    await expect(page.getByRole("listitem").first()).toContainText("Preparing the container");
    await expectAccessible(page);
    await page.evaluate(() => ((window as { same?: boolean }).same = true)); // gone after a reload
    await (stub ? pace("0s") : restartAgent());
    await expect(page.getByText("Running")).toBeVisible();
    await expect(page.getByText("The connection was lost")).toBeHidden();
    for (const step of ["Preparing the container", "Starting the container", "Configuring the IDE", "Waiting for the IDE to answer"])
      await expect(page.getByRole("listitem").filter({ hasText: step })).toHaveText(new RegExp(`^${step}\\d`));
    // The events that came back are alive.
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByRole("button", { name: "Stop workspace" }).click();
    await expect(page.getByText("Stopped")).toBeVisible();
    expect(await page.evaluate(() => (window as { same?: boolean }).same)).toBe(true);
  });
});

test.describe("what is being created", () => {
  test.beforeAll(() => pace("5s")); // for each of its three steps
  test.afterAll(() => pace("0s"));

  for (const script of [true, false])
    test.describe(script ? "with the script" : "without the script", () => {
      test.use({ javaScriptEnabled: script });

      test("can be stopped and deleted at once", async ({ page }) => {
        const begin = async (what: string) => {
          await page.goto("/app/workspaces/new/configure");
          await page.getByLabel("Name").fill(uniqueName(what));
          await page.getByRole("button", { name: "Create workspace" }).click();
          await expect(page.getByText("Creating")).toBeVisible();
        };
        await begin("stopped");
        if (!script) await page.locator('a[href="?still"]').click(); // or it loads itself again with the panel open
        await page.getByRole("button", { name: "Stop" }).click();
        await expect(page.getByText("Stopping a workspace disconnects")).toBeVisible();
        if (script) await expectAccessible(page);
        await page.getByRole("button", { name: "Stop workspace" }).click();
        await expect(page.locator(".badge")).toHaveText("Stopped");

        await begin("deleted");
        if (!script) await page.locator('a[href="?still"]').click();
        await page.getByRole("button", { name: "Delete" }).click();
        await expect(page.getByText("This will permanently delete")).toBeVisible();
        await page.getByRole("button", { name: "Delete workspace" }).click();
        await expect(page).toHaveURL(/\/app\/workspaces$/);
        await expect(page.getByRole("row").filter({ hasText: "deleted-" })).toHaveCount(0);
      });
    });
});

test.describe("while it stops", () => {
  test.use({ quiet: false }); // the agent is restarted
  test.afterAll(() => pace("0s"));

  test("a panel that is open stays open, with the focus in it", async ({ page }) => {
    const w = await createWorkspace("panel");
    await pace("4s"); // time to open the panel while it stops
    await page.goto(`/app/workspaces/${w.id}`);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByRole("button", { name: "Stop workspace" }).click();
    await page.getByRole("button", { name: "Delete" }).click();
    await expect(page.locator(":focus")).toHaveText("Cancel");
    await expect(page.locator(".badge")).toHaveText("Stopped");
    await expect(page.getByRole("dialog")).toBeVisible();
    await expect(page.locator(":focus")).toHaveText("Cancel");
    await page.getByRole("button", { name: "Delete workspace" }).click();
    await expect(page).toHaveURL(/\/app\/workspaces$/);
  });
});

test.describe("ports", () => {
  test.use({ quiet: false }); // the browser reports the status of refused forms

  test("are added, refused and removed", async ({ page }) => {
    const w = await createWorkspace("ports");
    await page.goto(`/app/workspaces/${w.id}`);
    await page.getByLabel("Port", { exact: true }).fill("5173");
    await page.getByLabel("Label").fill("vite & co");
    await page.getByRole("button", { name: "Add port" }).click();
    const link = page.getByRole("link", { name: "Open preview of port 5173" });
    await expect(link).toHaveAttribute("href", `${preview}/workspace/${w.name}/port/5173/`);
    await expect(page.getByText("vite & co")).toBeVisible();
    await expect(page.getByLabel("Port", { exact: true })).toHaveValue("");

    await page.getByLabel("Port", { exact: true }).fill("5173");
    await page.getByLabel("Label").fill("again");
    await page.getByRole("button", { name: "Add port" }).click();
    await expect(page.getByText("Port 5173 is already registered for this workspace")).toBeVisible();
    await expect(page.getByLabel("Label")).toHaveValue("again");
    await expect(page.getByLabel("Port", { exact: true })).toBeFocused();

    for (const port of [3001, 3002, 3003, 3004]) {
      await page.getByLabel("Port", { exact: true }).fill(String(port));
      await page.getByRole("button", { name: "Add port" }).click();
      await expect(page.getByRole("link", { name: `Open preview of port ${port}` })).toBeVisible();
    }
    await expect(page.getByText("as many ports as a workspace can have")).toBeVisible();
    await page.getByRole("button", { name: "Remove port 5173" }).click();
    await expect(link).toHaveCount(0);
    await expect(page.getByRole("button", { name: "Add port" })).toBeVisible();
    await expectAccessible(page);
  });

  test("those that listen are listed, and a click registers one", async ({ page }) => {
    test.skip(!stub, "the stub is told what listens");
    const w = await createWorkspace("listening");
    const programs = [3000, 3001, 3002, 3003, 5173, 5432].map((Port) => ({ Port, Program: Port === 5173 ? "vite <dev>" : "node", Addresses: ["::1"] }));
    const told = await page.request.put(`${ide}/workspace/${w.name}/listening`, { data: [{ Port: 80, Program: "nginx", Addresses: ["0.0.0.0", "::"] }, ...programs] });
    expect(told.status()).toBe(200);
    await page.goto(`/app/workspaces/${w.id}`);
    await expect(page.getByRole("heading", { name: "Listening", exact: true })).toBeVisible();
    await expect(page.getByRole("listitem").filter({ hasText: "5173" })).toContainText("vite <dev>");
    await expect(page.getByRole("listitem").filter({ hasText: "5173" })).toContainText("::1");
    await expect(page.getByText("8080")).toHaveCount(0); // the IDE's own
    await expect(page.getByRole("button", { name: "Register port 80", exact: true })).toBeDisabled();
    await expect(page.getByRole("button", { name: "Register port 80", exact: true })).toHaveAccessibleDescription("Only ports from 1024 can be registered.");
    await expectAccessible(page);

    await page.getByRole("button", { name: "Register port 5173" }).focus();
    await page.keyboard.press("Enter");
    await expect(page.getByRole("link", { name: "Open preview of port 5173" })).toHaveAttribute("href", `${preview}/workspace/${w.name}/port/5173/`);
    await expect(page.getByText("vite <dev> listens")).toBeVisible();
    await expect(page.getByRole("button", { name: "Register port 5173" })).toHaveCount(0);
    for (const port of [3000, 3001, 3002, 3003]) {
      await page.getByRole("button", { name: `Register port ${port}` }).click();
      await expect(page.getByRole("link", { name: `Open preview of port ${port}` })).toBeVisible();
    }
    const sixth = page.getByRole("button", { name: "Register port 5432" });
    await expect(sixth).toBeDisabled();
    await expect(sixth).toHaveAccessibleDescription("5 ports are registered, and a workspace can have no more. Remove one first.");
    await expectAccessible(page);

    await page.request.put(`${ide}/workspace/${w.name}/listening`, { data: programs.slice(4) });
    await expect(page.getByText("nothing listens")).toHaveCount(4); // by itself
    await page.getByRole("button", { name: "Remove port 3000" }).click();
    await expect(sixth).toBeEnabled();
  });

  test.describe("without a script", () => {
    test.use({ javaScriptEnabled: false });

    test("a click registers one that listens", async ({ page }) => {
      test.skip(!stub, "the stub is told what listens");
      const w = await createWorkspace("listening");
      const told = await page.request.put(`${ide}/workspace/${w.name}/listening`, { data: [{ Port: 5173, Program: "node", Addresses: ["::1"] }] });
      expect(told.status()).toBe(200);
      await page.goto(`/app/workspaces/${w.id}`);
      await page.getByRole("button", { name: "Register port 5173" }).click();
      await expect(page.getByRole("link", { name: "Open preview of port 5173" })).toBeVisible();
      await expect(page.getByText("node listens")).toBeVisible();
    });
  });

  test("what is typed while one is added stays", async ({ page }) => {
    const w = await createWorkspace("typing");
    await page.goto(`/app/workspaces/${w.id}`);
    let answerNow = () => {};
    const typed = new Promise<void>((resolve) => (answerNow = resolve));
    await page.route(`**/app/workspaces/${w.id}/ports`, async (r) => {
      const response = await r.fetch();
      await typed;
      await r.fulfill({ response });
    });
    const port = page.getByLabel("Port", { exact: true });
    await port.fill("3001");
    await page.getByRole("button", { name: "Add port" }).click();
    await expect(page.getByRole("link", { name: "Open preview of port 3001" })).toBeVisible(); // by an event
    await port.fill("3002");
    answerNow();
    await page.getByRole("button", { name: "Add port" }).click();
    await expect(page.getByRole("link", { name: "Open preview of port 3002" })).toBeVisible();
    await expect(port).toHaveValue("");
  });
});

test("the log flows when it is opened", async ({ page }) => {
  const w = await createWorkspace("log");
  await page.goto(`/app/workspaces/${w.id}`);
  await expect(page.getByRole("log")).toBeHidden();
  await page.getByText("Container log").click();
  await expect(page.getByRole("log")).toContainText("serves on port");
  await expect(page.getByLabel("Resources").getByText("Memory", { exact: true })).toBeVisible();
});

test.describe("when the agent is restarted", () => {
  test.use({ quiet: false }); // the browser reports the broken connection

  test("the log that is open flows again", async ({ page }) => {
    const w = await createWorkspace("log");
    await page.goto(`/app/workspaces/${w.id}`);
    await page.getByText("Container log").click();
    await expect(page.getByRole("log")).toContainText("serves on port");
    await page.getByRole("log").evaluate((e) => (e.textContent = "what was read before"));
    await restartAgent();
    await expect(page.getByRole("log")).toContainText("serves on port");
    await expect(page.getByRole("log")).not.toContainText("before");
  });
});

test("everything can be done with the keyboard", async ({ page }) => {
  const name = uniqueName("keys");
  const focused = (text: string) => expect(page.locator(":focus")).toHaveText(text);
  await page.goto("/app/workspaces");
  for (const text of ["Skip to the content", "Rockpool", "Workspaces", "Disk", "Settings", "New workspace"]) {
    await page.keyboard.press("Tab");
    await focused(text);
  }
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Create workspace" })).toBeVisible();
  await page.getByRole("link", { name: "Blank workspace" }).press("Enter");
  await expect(page.getByLabel("Name")).toBeFocused();
  await page.keyboard.type(name);
  await page.keyboard.press("Enter");
  await expect(page.getByText("Running")).toBeVisible();
  await page.getByRole("button", { name: "Stop" }).press("Enter");
  await focused("Stop workspace");
  await page.keyboard.press("Escape");
  await focused("Stop");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await expect(page.getByText("Stopped")).toBeVisible();
  await page.getByRole("button", { name: "Delete" }).press("Enter");
  await focused("Cancel"); // the harmless one
  await page.keyboard.press("Shift+Tab");
  await focused("Delete workspace");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/app\/workspaces$/);
});

test.describe("without the script", () => {
  test.use({ javaScriptEnabled: false });

  test("links and forms do everything", async ({ page }) => {
    const name = uniqueName("plain");
    await page.goto("/app/workspaces");
    await page.getByRole("button", { name: "New workspace" }).click();
    await page.getByText("Blank workspace").click();
    await page.getByLabel("Name").fill(name);
    await page.getByRole("button", { name: "Create workspace" }).click();
    await expect(page.getByText("Running")).toBeVisible(); // the page loads itself again
    await page.getByLabel("Port", { exact: true }).fill("3000");
    await page.getByRole("button", { name: "Add port" }).click();
    await page.getByRole("button", { name: "Remove port 3000" }).click();
    await page.getByRole("button", { name: "Save all" }).click();
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByRole("button", { name: "Stop workspace" }).click();
    await expect(page.getByText("Stopped")).toBeVisible();
    await page.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("button", { name: "Delete workspace" }).click();
    await expect(page).toHaveURL(/\/app\/workspaces$/);
  });
});
