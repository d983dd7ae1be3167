import { api, createWorkspace, expect, expectAccessible, hasStatus, idOf, removeWorkspaces, test, uniqueName, type Workspace } from "./stack";

test.afterAll(removeWorkspaces);

test.describe("faults in the form", () => {
  test.use({ quiet: false }); // the browser reports the status of the answer

  test("are at the field, and nothing typed is lost", async ({ page }) => {
    const taken = await createWorkspace("taken");
    await page.goto("/app/workspaces/new/configure");
    await page.getByLabel("Description").fill("Stays where it is");
    await page.getByLabel("Name").fill(taken.name);
    await page.getByRole("button", { name: "Create workspace" }).click();
    const name = page.getByLabel("Name");
    await expect(name).toHaveAttribute("aria-invalid", "true");
    await expect(name).toHaveAccessibleDescription(/already exists/);
    await expect(name).toHaveValue(taken.name);
    await expect(name).toBeFocused();
    await expect(page.getByLabel("Description")).toHaveValue("Stays where it is");
    await expectAccessible(page);
  });

  test("are found by the browser before they are sent", async ({ page }) => {
    await page.goto("/app/workspaces/new/configure");
    await page.getByLabel("Name").fill("No Way");
    await page.getByRole("button", { name: "Create workspace" }).click();
    expect(await page.getByLabel("Name").evaluate((e: HTMLInputElement) => e.validity.patternMismatch)).toBe(true);
    await expect(page).toHaveURL(/configure$/);
  });

  test("a repository that is none", async ({ page }) => {
    await page.goto("/app/workspaces/new/repo");
    await page.getByLabel("Repository").fill("git@github.com:a/b");
    await page.getByRole("button", { name: "Continue" }).click();
    await expect(page.getByText("Must be owner/repository")).toBeVisible();
    await expect(page.getByLabel("Repository")).toHaveValue("git@github.com:a/b");
  });
});

test("a double click creates one workspace", async ({ page }) => {
  const name = uniqueName("twice");
  await page.goto("/app/workspaces/new/configure");
  await page.getByLabel("Name").fill(name);
  await page.getByRole("button", { name: "Create workspace" }).dblclick();
  await expect(page.getByRole("heading", { name })).toBeVisible();
  await expect(page).toHaveURL(/\/app\/workspaces\/[0-9a-z]{25}$/);
});

test("search leads from a repository to its name", async ({ page }) => {
  const found = { "octocat": ["octocat/Hello-World", "octocat/<b>"], "nothing": [] } as Record<string, string[]>;
  await page.route("**/api/github/repos/search?*", (r) => {
    const items = found[new URL(r.request().url()).searchParams.get("q")!].map((full_name) => ({ full_name }));
    return r.fulfill({ json: { items, total_count: items.length, next_page: null } });
  });
  await page.goto("/app/workspaces/new");
  await page.getByText("Clone from GitHub").click();
  await expect(page.getByRole("heading", { name: "Choose a repository" })).toBeVisible();
  const input = page.getByPlaceholder("Search repositories...");
  await input.fill("nothing");
  await expect(page.getByText("no public repository that fits")).toBeVisible();
  await input.fill("octocat");
  await expect(page.getByRole("option")).toHaveCount(2);
  await expectAccessible(page);
  await page.getByRole("button", { name: "Continue" }).hover(); // nothing covers it
  await expect(page.getByRole("option").nth(1)).toHaveText("octocat octocat/<b>");
  await input.press("ArrowDown");
  await expect(page.getByRole("option", { name: /^octocat\s+octocat\/Hello-World/ })).toHaveAttribute("aria-selected", "true");
  await input.press("Enter");
  await expect(page).toHaveURL(/\/app\/workspaces\/new\/configure\?repo=octocat%2FHello-World$/);
  await expect(page.getByLabel("Name")).toHaveValue("hello-world");
  await expect(page.getByText("octocat/Hello-World")).toBeVisible();
});

test.describe("when GitHub cannot be searched", () => {
  test.use({ quiet: false }); // the browser reports the status of the answer

  test("the page says so, and what is typed is taken all the same", async ({ page }) => {
    await page.route("**/api/github/repos/search?*", (r) => r.fulfill({ status: 503, json: { error: { code: "unavailable", message: "no" } } }));
    await page.goto("/app/workspaces/new/repo");
    await page.getByLabel("Repository").fill("team/private");
    await expect(page.getByText("GitHub cannot be searched now")).toBeVisible();
    await page.getByRole("button", { name: "Continue" }).click();
    await expect(page.getByLabel("Name")).toHaveValue("private");
  });
});

test("a clone that fails says why, and can be tried again", async ({ page }) => {
  await page.goto("/app/workspaces/new/configure?repo=https%3A%2F%2Fgit.invalid%2Fa%2Fb");
  await page.getByLabel("Name").fill(uniqueName("failing"));
  await page.getByLabel("Access token").fill("s3cret-token");
  await page.getByRole("button", { name: "Create workspace" }).click();
  await expect(page.getByText("Error")).toBeVisible();
  await expect(page.getByRole("alert")).toContainText(["there is no host git.invalid"]);
  await expect(page.getByRole("listitem").filter({ hasText: "Cloning the repository" })).toHaveClass("failed");
  const id = idOf(page);
  const { updatedAt } = await api<Workspace>("GET", `/api/workspaces/${id}`);
  await page.getByRole("button", { name: "Retry start" }).click();
  await expect.poll(async () => (await api<Workspace>("GET", `/api/workspaces/${id}`)).updatedAt).not.toBe(updatedAt);
  await hasStatus(id, "error");
  await page.reload(); // so that what follows is of the second try
  await expect(page.getByRole("listitem").filter({ hasText: "Cloning the repository" })).toHaveClass("failed");
  await expect(page.getByText("Error")).toBeVisible();
  expect(await page.content()).not.toContain("s3cret-token");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete workspace" }).click();
  await expect(page).toHaveURL(/\/app\/workspaces$/);
});
