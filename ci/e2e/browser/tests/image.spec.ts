import { api, createWorkspace, expect, expectAccessible, removeWorkspaces, stub, tellStub, test } from "./stack";

test.beforeAll(removeWorkspaces);
test.afterAll(removeWorkspaces);

type Image = { digest: string; newest: string; newer: boolean; packages: string[] };

test.describe("an update of the VM", () => {
  test.skip(!stub, "the stub is told which image the VM carries; in a VM the end-to-end tests update it");

  for (const [n, script] of [true, false].entries())
    test.describe(script ? "with the script" : "without the script", () => {
      test.use({ javaScriptEnabled: script });

      test("deletes nothing: the owner moves a workspace on, having seen what goes", async ({ page }) => {
        const w = await createWorkspace("stays");
        const at = `/app/workspaces/${w.id}`;
        await tellStub(w, "installed", ["postgresql-17", "redis"]);
        await page.goto(at);
        await expect(page.getByText("rockpool-workspace")).toBeVisible();
        await expect(page.locator("#newer")).toHaveCount(0);

        const next = "sha256:" + String(n + 2).repeat(64);
        await tellStub(w, "carried", next);
        await page.reload();
        await page.locator("#newer").click();
        await expect(page.getByRole("heading", { name: `Image of ${w.name}` })).toBeVisible();
        await expect(page.locator("#packages")).toContainText("postgresql-17");
        await expect(page.locator("#packages")).toContainText("redis");
        await expect(page.locator("#move-on")).toHaveCount(0); // not while it runs
        if (script) await expectAccessible(page);

        await page.goto(at);
        await page.getByRole("button", { name: "Stop" }).click();
        await page.getByRole("button", { name: "Stop workspace" }).click();
        await expect(page.locator(".badge")).toHaveText("Stopped");
        await page.goto(`${at}/image`);
        await expect(page.locator("#move-on")).toBeVisible();
        if (script) await expectAccessible(page);
        expect((await api<Image>("GET", `/api/workspaces/${w.id}/image`)).packages).toEqual(["postgresql-17", "redis"]);
        await page.getByRole("button", { name: "Move on and start" }).click();
        await expect(page).toHaveURL(new RegExp(`${at}(\\?.*)?$`));
        await expect(page.locator(".badge")).toHaveText("Running");
        await expect(page.getByRole("listitem").filter({ hasText: "Moving on to the newer image" })).toBeVisible();
        await expect(page.locator("#newer")).toHaveCount(0);
        const after = await api<Image>("GET", `/api/workspaces/${w.id}/image`);
        expect(after).toMatchObject({ digest: next, newer: false, packages: [] });
      });
    });
});
