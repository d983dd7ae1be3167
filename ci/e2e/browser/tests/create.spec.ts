import { createWorkspace, expect, removeWorkspaces, test, uniqueName } from "./stack";

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

test("search leads from a repository to its name", async ({ page }) => {
  await page.route("**/api/github/repos/search?*", (r) =>
    r.fulfill({ json: { items: [{ full_name: "octocat/Hello-World" }, { full_name: "octocat/<b>" }], total_count: 2, next_page: null } }),
  );
  await page.goto("/app/workspaces/new");
  await page.getByText("Clone from GitHub").click();
  await expect(page.getByRole("heading", { name: "Choose a repository" })).toBeVisible();
  const input = page.getByPlaceholder("Search repositories...");
  await input.fill("octocat");
  await expect(page.getByRole("option")).toHaveCount(2);
  await expect(page.getByRole("option").nth(1)).toHaveText("octocat octocat/<b>");
  await input.press("ArrowDown");
  await expect(page.getByRole("option", { name: /^octocat\s+octocat\/Hello-World/ })).toHaveAttribute("aria-selected", "true");
  await input.press("Enter");
  await expect(page).toHaveURL(/\/app\/workspaces\/new\/configure\?repo=octocat%2FHello-World$/);
  await expect(page.getByLabel("Name")).toHaveValue("hello-world");
  await expect(page.getByText("octocat/Hello-World")).toBeVisible();
});

test("a clone that fails says why, and can be tried again", async ({ page }) => {
  await page.goto("/app/workspaces/new/configure?repo=https%3A%2F%2Fgit.invalid%2Fa%2Fb");
  await page.getByLabel("Name").fill(uniqueName("failing"));
  await page.getByLabel("Access token").fill("s3cret-token");
  await page.getByRole("button", { name: "Create workspace" }).click();
  await expect(page.getByText("Error")).toBeVisible();
  await expect(page.getByRole("alert")).toContainText(["there is no host git.invalid"]);
  await expect(page.getByRole("listitem").filter({ hasText: "Cloning the repository" })).toHaveClass("failed");
  await page.getByRole("button", { name: "Retry start" }).click();
  await expect(page.getByRole("listitem").filter({ hasText: "Cloning the repository" })).toHaveClass("failed");
  await expect(page.getByText("Error")).toBeVisible();
  expect(await page.content()).not.toContain("s3cret-token");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete workspace" }).click();
  await expect(page).toHaveURL(/\/app\/workspaces$/);
});
