import { api, artifacts, createWorkspace, expect, expectAccessible, hasStatus, readFile, removeWorkspaces, test, writeFile } from "./stack";
import type { Page } from "@playwright/test";

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

const git = (name: string) => `[user]\n\tname = ${name}\n`;

async function stop(id: string) {
  await api("POST", `/api/workspaces/${id}/stop`);
  await hasStatus(id, "stopped");
}

async function start(id: string) {
  await api("POST", `/api/workspaces/${id}/start`);
  await hasStatus(id, "running");
}

// stored is the content of a stored preference.
const stored = async (name: string) => (await api<{ blob: string }>("GET", `/api/settings/${name}`)).blob;

// fits expects a page without grave faults that needs no scrolling sideways.
async function fits(page: Page) {
  await expectAccessible(page);
  const size = page.viewportSize()!;
  await page.setViewportSize({ width: 390, height: 844 });
  await expectAccessible(page);
  expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
  await page.setViewportSize(size);
}

test("two edits of the same preference wait for a choice @both", async ({ page }) => {
  const first = await createWorkspace("one", { autoSyncPrefs: true });
  await writeFile(first, ".gitconfig", git("Base"));
  await stop(first.id);
  await start(first.id);
  const second = await createWorkspace("two", { autoSyncPrefs: true });
  expect(await readFile(second.id, ".gitconfig")).toBe(git("Base"));
  await writeFile(first, ".gitconfig", git("First"));
  await writeFile(second, ".gitconfig", git("Second"));
  await stop(first.id);
  await page.goto(`/app/workspaces/${second.id}`);
  await stop(second.id);
  await start(second.id);
  expect(await readFile(second.id, ".gitconfig")).toBe(git("Second"));
  expect(await stored("GitConfig")).toBe(git("First"));
  await expect(page.getByText("It was changed here and in another workspace.")).toBeVisible(); // by an event
  await fits(page);

  await page.goto("/app/settings");
  await fits(page);
  await page.getByRole("link", { name: `Look at the difference of Git Config in ${second.name}` }).click();
  await expect(page.getByRole("heading", { name: "Git Config" })).toBeVisible();
  await expect(page.getByRole("deletion")).toContainText("name = First");
  await expect(page.getByRole("insertion")).toContainText("name = Second");
  await fits(page);
  await page.screenshot({ path: `${artifacts}/screens/difference.png`, fullPage: true });
  await page.getByRole("button", { name: "Use the stored one" }).click();
  await expect(page.getByRole("heading", { name: second.name })).toBeVisible();
  await expect(page.getByText("It was changed here and in another workspace.")).toHaveCount(0);
  expect(await readFile(second.id, ".gitconfig")).toBe(git("First"));
});

test.describe("what can run programs", () => {
  test.use({ quiet: false }); // the browser reports the status of the answers

  test("is stored only once it was seen @both", async ({ page }) => {
    const w = await createWorkspace("alias", { autoSyncPrefs: true });
    const before = await stored("GitConfig");
    const dangerous = before + "[alias]\n\tx = !id\n";
    await writeFile(w, ".gitconfig", dangerous);
    await page.goto(`/app/workspaces/${w.id}`);
    await page.getByRole("button", { name: "Save all" }).click();
    await expect(page.getByText("Can run programs, so you have to see it first.")).toBeVisible();
    await fits(page);
    await stop(w.id);
    expect(await stored("GitConfig")).toBe(before);
    await expect(page.getByText("so it was not stored")).toBeVisible(); // by an event

    await page.getByRole("link", { name: "Look at the difference of Git Config" }).first().click();
    await expect(page.getByRole("listitem").filter({ hasText: 'alias.x = "!id"' })).toBeVisible();
    await fits(page);
    await page.screenshot({ path: `${artifacts}/screens/programs.png`, fullPage: true });
    await page.getByRole("button", { name: "Keep this" }).click();
    await expect(page.getByRole("heading", { name: w.name })).toBeVisible();
    expect(await stored("GitConfig")).toBe(dangerous);
    const next = await createWorkspace("next");
    expect(await readFile(next.id, ".gitconfig")).toBe(dangerous);
  });
});

test.describe("without a script", () => {
  test.use({ javaScriptEnabled: false, quiet: false }); // the browser reports the status of an answer

  test("a stored preference is looked at and removed @both", async ({ page }) => {
    const w = await createWorkspace("plain");
    await page.goto("/app/settings");
    await page.getByRole("link", { name: "View the stored Git Config" }).click();
    await expect(page.getByRole("region", { name: "Content" })).toContainText("[user]");
    await page.getByRole("button", { name: "Remove" }).click();
    await page.getByRole("button", { name: "Remove preference" }).click();
    await expect(page.getByRole("row").filter({ hasText: "Git Config" })).toContainText("Never");
    expect(await readFile(w.id, ".gitconfig")).not.toBe("");

    await page.getByLabel("From workspace").selectOption(w.id);
    await page.getByRole("button", { name: "Save all" }).click();
    await page.getByRole("link", { name: "Look at the difference of Git Config" }).first().click();
    await page.getByRole("button", { name: "Keep this" }).click();
    expect(await stored("GitConfig")).toContain("!id");
  });
});
