import { dashboard, expect, figure, ide, removeWorkspaces, stub, test, uniqueName } from "./stack";
import type { Page } from "@playwright/test";

test.afterAll(removeWorkspaces);

// One workspace's life, as a person lives it: only by what can be seen.
test("create, run, stop, start, delete @both", async ({ page, context }) => {
  const name = uniqueName("life");
  await page.goto("/app/workspaces");
  await page.getByRole("button", { name: "New workspace" }).click();
  await expect(page).toHaveURL(`${dashboard}/app/workspaces/new?`);
  await expect(page.getByRole("heading", { name: "Create workspace" })).toBeVisible();
  await page.getByText("Blank workspace").click();
  await expect(page).toHaveURL(`${dashboard}/app/workspaces/new/configure`);
  await expect(page.getByRole("heading", { name: "Configure workspace" })).toBeVisible();
  await page.getByLabel("Name").fill(name);
  const clicked = Date.now();
  await page.getByRole("button", { name: "Create workspace" }).click();

  await expect(page).toHaveURL(/\/app\/workspaces\/[0-9a-z]{25}$/);
  await expect(page.getByRole("heading", { name })).toBeVisible();
  await page.evaluate(() => ((window as { same?: boolean }).same = true)); // gone after a reload
  const open = page.getByRole("link", { name: "Open IDE" });
  await expect(open).toBeVisible();
  figure('click on "Create workspace" to "Open IDE"', (Date.now() - clicked) / 1000, "s");
  await expect(page.getByText("Running")).toBeVisible();
  await expect(page.getByRole("listitem").filter({ hasText: /^Waiting for the IDE to answer[\d.]+ (s|min)/ })).toBeVisible();
  await expect(open).toHaveAttribute("href", `${ide}/workspace/${name}/`);
  const tab = context.waitForEvent("page");
  await open.click();
  const opened = await tab;
  await expect(opened).toHaveURL(new RegExp(`^${ide}/workspace/${name}/`));
  if (stub) await expect(opened.getByRole("heading", { name })).toBeVisible();
  await opened.close();

  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByText("Stopping a workspace disconnects")).toBeVisible();
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByText("Stopping a workspace disconnects")).toBeHidden();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Stop workspace" }).click();
  await expect(page.getByText("Stopped")).toBeVisible();
  await expect(open).toHaveCount(0);

  await page.getByRole("button", { name: "Start" }).click();
  await expect(page.getByText("Running")).toBeVisible();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Stop workspace" }).click();
  await expect(page.getByText("Stopped")).toBeVisible();
  expect(await page.evaluate(() => (window as { same?: boolean }).same), "the page was not loaded again").toBe(true);

  await page.getByRole("button", { name: "Delete" }).click();
  await expect(page.getByText("This will permanently delete")).toBeVisible();
  await page.getByRole("button", { name: "Delete workspace" }).click();
  await expect(page).toHaveURL(`${dashboard}/app/workspaces`);
  await expect(page.getByText(name)).toHaveCount(0);
});

test("the list follows what happens elsewhere", async ({ page, context }) => {
  await page.goto("/app/workspaces");
  const other = await context.newPage();
  const name = uniqueName("elsewhere");
  await other.goto("/app/workspaces/new/configure");
  await other.getByLabel("Name").fill(name);
  await other.getByRole("button", { name: "Create workspace" }).click();
  await page.bringToFront();
  const row = page.getByRole("row").filter({ hasText: name });
  await expect(row.getByText("Running")).toBeVisible();
  await expect(row.getByRole("link", { name: "Open IDE" })).toBeVisible();
  await other.bringToFront();
  await expect(other.getByText("Running")).toBeVisible();
  await other.getByRole("button", { name: "Stop" }).click();
  await other.getByRole("button", { name: "Stop workspace" }).click();
  await page.bringToFront();
  await expect(row.getByText("Stopped")).toBeVisible();
  await row.getByRole("link", { name }).click();
  await expect(page.getByRole("heading", { name })).toBeVisible();
});

test("the page of a workspace that is deleted elsewhere leads to the list", async ({ page, context }) => {
  const name = uniqueName("gone");
  await page.goto("/app/workspaces/new/configure");
  await page.getByLabel("Name").fill(name);
  await page.getByRole("button", { name: "Create workspace" }).click();
  await expect(page.getByText("Running")).toBeVisible();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Stop workspace" }).click();
  await expect(page.getByText("Stopped")).toBeVisible();
  const other = await context.newPage();
  await other.goto(page.url());
  const asleep = await context.newPage();
  await asleep.goto(page.url());
  await hide(asleep, true);
  await other.getByRole("button", { name: "Delete" }).click();
  await other.getByRole("button", { name: "Delete workspace" }).click();
  await page.bringToFront();
  await expect(page).toHaveURL(`${dashboard}/app/workspaces`);
  await hide(asleep, false);
  await expect(asleep).toHaveURL(`${dashboard}/app/workspaces`);
});

// hide tells the page that it is hidden, as the browser does when another tab
// is in front; under test it takes every tab for the one in front.
async function hide(page: Page, hidden: boolean) {
  await page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
}
