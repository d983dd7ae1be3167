import { artifacts, createWorkspace, expect, expectAccessible, removeWorkspaces, test, api, uniqueName, hasStatus, type Workspace } from "./stack";
import type { Page } from "@playwright/test";

// Every page, light and dark, on a desktop and on a phone: looked at by axe,
// and kept as pictures for people.
let running: Workspace;
let halted: Workspace;
let failed: Workspace;

test.beforeAll(removeWorkspaces);
test.afterAll(removeWorkspaces);

const looks = {
  "light-desktop": { colorScheme: "light", viewport: { width: 1280, height: 800 } },
  "light-phone": { colorScheme: "light", viewport: { width: 390, height: 844 } },
  "dark-desktop": { colorScheme: "dark", viewport: { width: 1280, height: 800 } },
  "dark-phone": { colorScheme: "dark", viewport: { width: 390, height: 844 } },
} as const;

async function seeAll(page: Page, name: string, path: string) {
  for (const [look, { colorScheme, viewport }] of Object.entries(looks)) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize(viewport);
    await page.goto(path);
    await expectAccessible(page);
    await page.screenshot({ path: `${artifacts}/screens/${name}-${look}.png`, fullPage: true });
  }
}

test("the empty list", ({ page }) => seeAll(page, "empty", "/app/workspaces"));

test.describe("what is not there", () => {
  test.use({ quiet: false }); // the browser reports the status of the answer
  test("is a page, too", ({ page }) => seeAll(page, "missing", "/app/nothing"));
});

test.describe("with workspaces", () => {
  test.slow(); // 32 pages

  test("every page", async ({ page }) => {
    halted = await createWorkspace("garden-planner");
    await api("POST", `/api/workspaces/${halted.id}/stop`);
    failed = await api<Workspace>("POST", "/api/workspaces", { name: uniqueName("broken"), image: "", repositoryId: "https://git.invalid/team/app" });
    running = await createWorkspace("hello-world", { description: "Where the garden planner and its little API live, until they have a home of their own." });
    await api("POST", `/api/workspaces/${running.id}/ports`, { port: 5173, label: "web" });
    await hasStatus(halted.id, "stopped");
    await hasStatus(failed.id, "error");
    const pages: Record<string, string> = {
      list: "/app/workspaces",
      new: "/app/workspaces/new",
      repository: "/app/workspaces/new/repo",
      configure: "/app/workspaces/new/configure?repo=octocat%2FHello-World",
      running: `/app/workspaces/${running.id}`,
      stopped: `/app/workspaces/${halted.id}`,
      error: `/app/workspaces/${failed.id}`,
      disk: "/app/disk",
      settings: "/app/settings",
    };
    for (const [look, { colorScheme, viewport }] of Object.entries(looks)) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize(viewport);
      for (const [name, path] of Object.entries(pages)) {
        await page.goto(path);
        if (name === "running") {
          await page.getByText("Container log").click();
          await expect(page.getByRole("log")).not.toBeEmpty();
          await page.getByRole("button", { name: "Stop" }).click();
          await expect(page.getByRole("dialog")).toBeVisible();
          await expectAccessible(page);
          await page.keyboard.press("Escape");
        }
        if (name === "stopped") {
          await page.getByRole("button", { name: "Delete" }).click();
          await expect(page.getByRole("dialog")).toBeVisible();
        }
        await expectAccessible(page);
        expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} fits ${look}`).toBe(true);
        await page.screenshot({ path: `${artifacts}/screens/${name}-${look}.png`, fullPage: true });
      }
    }
  });
});
