import { api, createWorkspace, expect, readFile, removeWorkspaces, test, writeFile } from "./stack";

test.afterAll(removeWorkspaces);

// Nothing was saved before: the stack is new.
test("preferences are saved from a workspace and arrive in the next @both", async ({ page }) => {
  await page.goto("/app/settings");
  await expect(page.getByRole("row").filter({ hasText: "Never" })).toHaveCount(3);
  await expect(page.getByRole("button", { name: "Save all" })).toBeDisabled();

  const first = await createWorkspace("prefs");
  await expect(page.getByLabel("From workspace")).toContainText(first.name); // by an event
  await page.getByRole("button", { name: "Save all" }).click();
  await expect(page.getByText(/Nothing to save|Saved\./)).toBeVisible();
  await expect(page.getByText(/failed to save|Not everything/)).toHaveCount(0);
  await expect(page.getByRole("row").filter({ hasText: "Git Config" })).toContainText("Never");

  const git = "[user]\n\tname = Ümläut\n";
  const settings = '{\n  // a comment\n  "editor.fontSize": 17\n}\n';
  await writeFile(first, ".gitconfig", git);
  await writeFile(first, ".local/share/code-server/User/settings.json", settings);
  await page.goto(`/app/workspaces/${first.id}`);
  await expect(page.getByText("Preferences")).toBeVisible();
  await page.getByRole("button", { name: "Save all" }).click();
  await expect(page.getByRole("row").filter({ hasText: "Git Config" })).toContainText("just now");
  await expect(page.getByRole("row").filter({ hasText: "Editor Settings" })).toContainText("just now");

  const second = await createWorkspace("prefs");
  expect(await readFile(second.id, ".gitconfig")).toBe(git);
  expect(await readFile(second.id, ".local/share/code-server/User/settings.json")).toBe(settings);
  await page.goto("/app/settings");
  await expect(page.getByRole("row").filter({ hasText: "Never" })).toHaveCount(1);
  const saved = await api<{ name: string }[]>("GET", "/api/settings");
  expect(saved.map((s) => s.name).sort()).toEqual(["CodeServerSettings", "GitConfig"]);
});
