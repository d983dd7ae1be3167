import { dashboard, expect, ide, password, preview, removeWorkspaces, test } from "./stack";

test.beforeAll(removeWorkspaces);

test("the dashboard greets with an empty list @both", async ({ page }) => {
  await page.goto("/");
  await expect(page).toHaveURL(`${dashboard}/app/workspaces`);
  await expect(page.getByRole("heading", { name: "Workspaces" })).toBeVisible();
  await expect(page.getByText("No workspaces yet")).toBeVisible();
  await expect(page.getByRole("link", { name: "Rockpool" })).toBeVisible();
  await expect(page.getByRole("link", { name: "Workspaces" })).toBeVisible();
  await expect(page.getByRole("button", { name: "New workspace" })).toBeVisible();
});

test("health needs no password, the API does @both", async ({ request }) => {
  const health = await fetch(`${dashboard}/api/health`); // Node's own, which knows no password
  expect([health.status, await health.text()]).toEqual([200, "OK"]);
  for (const address of [`${dashboard}/api/ping`, `${dashboard}/app/workspaces`, `${ide}/workspace/x/`, `${preview}/workspace/x/port/3000/`]) {
    const answer = await fetch(address, { redirect: "manual" });
    expect(answer.status, address).toBe(401);
  }
  const ping = await request.get("/api/ping");
  expect(await ping.json()).toEqual({ status: "ok" });
});

test("the IDE's and the previews' servers have no API and know no stranger @both", async ({ request }) => {
  for (const server of [ide, preview]) {
    expect((await request.get(`${server}/api/workspaces`)).status()).toBe(404);
    const answer = await request.get(`${server}/workspace/nobody${server === preview ? "/port/3000" : ""}/`);
    expect(answer.status()).toBe(404);
    expect(await answer.text()).toContain("nobody");
  }
});

test("the dashboard's policy allows nothing inline and no other host @both", async ({ request }) => {
  const headers = (await request.get("/app/workspaces")).headers();
  expect(headers["content-security-policy"]).toContain("default-src 'none'");
  expect(headers["content-security-policy"]).not.toContain("unsafe");
  expect(headers["x-content-type-options"]).toContain("nosniff");
  expect(headers["referrer-policy"]).toBe("same-origin");
});

test("a form of another origin is refused @both", async ({ request }) => {
  const answer = await request.post("/app/workspaces/new/configure", {
    headers: { Origin: ide, "Sec-Fetch-Site": "same-site" },
    form: { name: "not-mine" },
  });
  expect(answer.status()).toBe(403);
});

test.describe("with a wrong password", () => {
  test.use({ httpCredentials: { username: "admin", password: password + "x" }, quiet: false });
  test("nothing is shown @both", async ({ page }) => {
    // Chromium shows its own page for a 401 whose body is empty.
    const answer = await page.goto("/app/workspaces").catch(() => null);
    expect(answer?.status() ?? 401).toBe(401);
    await expect(page.getByText("Rockpool")).toHaveCount(0);
  });
});
