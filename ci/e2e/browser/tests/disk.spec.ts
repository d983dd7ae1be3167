import { api, createWorkspace, expect, expectAccessible, fill, removeWorkspaces, stub, test } from "./stack";

test.beforeEach(removeWorkspaces);
test.afterAll(removeWorkspaces);

const GiB = 2 ** 30;
type Limits = { diskBytes: number; diskUsed: number; disk: { limit: number } };

test.describe("the disk", () => {
  test.skip(!stub, "the stub is told what is used; in a VM the end-to-end tests fill it");
  test.use({ quiet: false }); // the browser reports the status of refused forms

  for (const script of [true, false])
    test.describe(script ? "with the script" : "without the script", () => {
      test.use({ javaScriptEnabled: script });

      test("of a workspace has a bar, a warning, and a limit that holds at once", async ({ page }) => {
        const w = await createWorkspace("room");
        const look = () => (script ? Promise.resolve() : page.reload().then(() => undefined));
        const eventually = (what: () => Promise<void>) => expect(async () => (await look(), await what())).toPass({ timeout: 20_000 });
        await page.goto(`/app/workspaces/${w.id}`);
        const bar = page.getByRole("meter", { name: "Disk" });
        await expect(bar).toBeVisible();
        await expect(page.locator("#disk-warning")).toHaveCount(0);
        if (script) await expectAccessible(page);

        const { disk } = await api<Limits>("GET", `/api/workspaces/${w.id}/limits`);
        await fill(w, Math.round(disk.limit * 0.85));
        await eventually(async () => {
          await expect(page.locator("#disk-warning")).toContainText("Its files take 85 % of the 9.3 GiB that they may", { timeout: 1000 });
          await expect(page.getByText("7.9 GiB of 9.3 GiB", { exact: false }).first()).toBeVisible({ timeout: 1000 });
        });
        if (script) await expectAccessible(page);

        // Less than is used: taken, with what that means.
        await page.getByLabel("Disk GiB").fill("2");
        await page.getByRole("button", { name: "Set limits" }).click();
        await expect(page.locator("#disk-warning")).toContainText("more than the 2.0 GiB that they may: nothing can be written");
        expect((await api<Limits>("GET", `/api/workspaces/${w.id}/limits`)).diskBytes).toBe(2 * GiB);

        // More than there is: refused, with what is allowed.
        await page.getByLabel("Disk GiB").fill("9000");
        if (script) await page.locator("form:has(#set-limits)").evaluate((f: HTMLFormElement) => (f.noValidate = true));
        await page.getByRole("button", { name: "Set limits" }).click();
        if (script) await expect(page.locator("#disk-fault")).toContainText("from 1.0 GiB to 37.3 GiB");
        await page.getByLabel("Disk GiB").fill("20");
        await page.getByRole("button", { name: "Set limits" }).click();
        await expect(page.locator("#disk-warning")).toHaveCount(0);
        await expect(page.getByText("of 20.0 GiB", { exact: false }).first()).toBeVisible();
      });

      test("has a page that says who takes what, and leads to each limit", async ({ page }) => {
        const large = await createWorkspace("large");
        const small = await createWorkspace("small");
        await fill(large, 9.2 * GiB);
        await page.goto("/app/workspaces");
        await page.getByRole("link", { name: "Disk", exact: true }).click();
        await expect(page.getByRole("heading", { name: "Disk" })).toBeVisible();
        const row = page.getByRole("row").filter({ hasText: large.name });
        await expect(async () => {
          if (!script) await page.getByRole("link", { name: "Look again" }).click();
          await expect(row).toContainText("9.2 GiB", { timeout: 1000 });
        }).toPass({ timeout: 20_000 });
        await expect(row).toContainText("99 %");
        await expect(page.getByRole("meter", { name: `Disk of ${large.name}` })).toBeVisible();
        await expect(page.getByRole("row").nth(1)).toContainText(large.name); // the most first
        await expect(page.locator("#disk-free")).toContainText("GiB");
        if (script) await expectAccessible(page);

        // The list warns, too, and the way to the limit is short.
        await page.getByRole("link", { name: `Limits of ${large.name}` }).click();
        await expect(page.getByLabel("Disk GiB")).toBeVisible();
        await page.goto("/app/workspaces");
        await expect(page.getByRole("row").filter({ hasText: large.name })).toContainText("99 % of its disk used");
        await expect(page.getByRole("row").filter({ hasText: small.name })).not.toContainText("disk");
        if (script) await expectAccessible(page);
      });
    });

  test("of a full workspace keeps nobody from anything else", async ({ page }) => {
    const full = await createWorkspace("full");
    await fill(full, 9.4 * GiB);
    const other = await createWorkspace("other"); // not refused
    await page.goto(`/app/workspaces/${full.id}`);
    await expect(page.locator("#disk-warning")).toContainText("Its files take", { timeout: 20_000 });
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByRole("button", { name: "Stop workspace" }).click();
    await expect(page.locator(".badge")).toHaveText("Stopped");
    await page.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("button", { name: "Delete workspace" }).click();
    await expect(page).toHaveURL(/\/app\/workspaces$/);
    await expect(page.getByRole("row").filter({ hasText: full.name })).toHaveCount(0);
    await expect(page.getByRole("row").filter({ hasText: other.name })).toContainText("Running");
  });
});
