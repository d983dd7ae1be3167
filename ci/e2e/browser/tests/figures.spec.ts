import { api, createWorkspace, expect, figure, removeWorkspaces, test, uniqueName, dashboard, type Workspace } from "./stack";

test.use({ trace: "off" }); // recording costs time
test.beforeAll(removeWorkspaces);
test.afterAll(removeWorkspaces);

test("the list with 100 workspaces is small and fast", async ({ page, context }) => {
  for (let i = 0; i < 100; i++) await api<Workspace>("POST", "/api/workspaces", { name: uniqueName("many"), image: "" });
  await expect
    .poll(async () => (await api<{ items: Workspace[] }>("GET", "/api/workspaces?limit=100")).items.filter((w) => w.status === "running").length)
    .toBe(100);

  const cdp = await context.newCDPSession(page);
  await cdp.send("Network.enable");
  const received = new Map<string, number>(); // bytes by request; a stream's are counted as they come
  cdp.on("Network.dataReceived", (e) => received.set(e.requestId, (received.get(e.requestId) ?? 0) + (e.encodedDataLength || e.dataLength)));
  cdp.on("Network.loadingFinished", (e) => received.set(e.requestId, e.encodedDataLength));
  const streams = new Promise((resolve) => cdp.once("Network.eventSourceMessageReceived", resolve));
  const paints: number[] = [];
  const interactive: number[] = [];
  for (let visit = 0; visit < 5; visit++) {
    await page.goto("/app/workspaces");
    const [paint, ready] = await page.evaluate(
      () =>
        new Promise<[number, number]>((resolve) => {
          const [navigation] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
          const done = (paint: number) => resolve([paint, navigation.domContentLoadedEventEnd]);
          const [seen] = performance.getEntriesByName("first-contentful-paint");
          if (seen) return done(seen.startTime);
          new PerformanceObserver((list) => {
            for (const e of list.getEntriesByName("first-contentful-paint")) done(e.startTime);
          }).observe({ type: "paint", buffered: true });
        }),
    );
    if (visit === 0) {
      await streams;
      const bytes = [...received.values()].reduce((a, b) => a + b, 0);
      figure("first visit of the list, 25 of 100 workspaces: transferred", bytes / 1000, "kB");
      expect(bytes).toBeLessThan(100_000);
      figure("first visit: first contentful paint", paint, "ms");
      figure("first visit: interactive", ready, "ms");
    } else {
      paints.push(paint);
      interactive.push(ready);
    }
  }
  const median = (xs: number[]) => xs.sort((a, b) => a - b)[Math.floor(xs.length / 2)];
  figure("later visits: first contentful paint, median of 4", median(paints), "ms");
  figure("later visits: interactive, median of 4", median(interactive), "ms");

  const seen = new Set<string>();
  for (;;) {
    await expect(page.locator("a.name")).toHaveCount(25);
    await page.waitForLoadState();
    for (const name of await page.locator("a.name").allInnerTexts()) seen.add(name);
    const older = page.getByRole("link", { name: "Older" });
    if ((await older.count()) === 0) break;
    const before = page.url();
    await older.click();
    await expect(page).not.toHaveURL(before);
  }
  expect(seen.size).toBe(100);
  await page.getByRole("link", { name: "Newest" }).click();
  await expect(page).toHaveURL(`${dashboard}/app/workspaces`);
});
