import { createWorkspace, exec, expect, figure, hasStatus, ide, idOf, preview, readFile, reboot, removeWorkspaces, test, workspace } from "./stack";
import type { Page } from "@playwright/test";

test.afterAll(removeWorkspaces);

// openIDE waits until the editor is there.
async function openIDE(page: Page, name: string) {
  const began = Date.now();
  await page.goto(`${ide}/workspace/${name}/`, { waitUntil: "domcontentloaded" });
  await expect(page.locator(".monaco-workbench").first()).toBeVisible();
  figure("IDE's address to its workbench", (Date.now() - began) / 1000, "s");
  await expect(page.locator("[id='workbench.parts.activitybar']")).toBeVisible();
}

// command runs one of the editor's commands by its whole name. Some appear only
// when the editor has all its parts, and the list closes when something else
// takes the focus, so it is opened anew until it has it.
async function command(page: Page, name: string) {
  const whole = new RegExp("^" + name.replace(/[.]/g, "\\.") + "(,|$)"); // a key may follow
  await expect(async () => {
    await page.keyboard.press("Escape");
    await page.keyboard.press("F1");
    await page.locator(".quick-input-widget input").fill(`>${name}`, { timeout: 30_000 });
    await page.locator(".quick-input-list").getByRole("option", { name: whole }).click({ timeout: 30_000 });
  }).toPass();
}

// The tests of a cloned repository go on in the same workspace, one after
// another, as its user does.
test.describe.serial("a repository that is cloned", () => {
  let id: string;

  test("is opened by the IDE: workbench, terminal, a file that is saved, search, source control @vm", async ({ page }) => {
    await page.goto("/app/workspaces/new/configure?repo=team%2Fhello");
    await expect(page.getByLabel("Name")).toHaveValue("hello");
    await page.getByRole("button", { name: "Create workspace" }).click();
    await expect(page.getByText("Running")).toBeVisible();
    await expect(page.getByRole("listitem").filter({ hasText: "Cloning the repository" })).toHaveClass("done");
    id = idOf(page);

    await openIDE(page, "hello");
    await expect(page.locator("[role='menubar']")).toBeVisible();
    await expect(page.getByRole("button", { name: "Explorer Section: hello" })).toBeVisible();
    await expect(page.getByRole("treeitem", { name: "README.md" })).toBeVisible();

    await command(page, "Terminal: Create New Terminal");
    await expect(page.locator(".terminal-wrapper.active .xterm")).toBeVisible();
    await expect(page.locator(".terminal-wrapper.active .xterm-helper-textarea")).toBeFocused();
    await page.keyboard.type("printf '%s' \"made-by-$((40 + 2))-$(id -un)\" > made.txt\n");
    await expect.poll(() => readFile(id, "hello/made.txt")).toBe("made-by-42-admin");
    await expect(page.getByRole("treeitem", { name: "made.txt" })).toBeVisible(); // the files are watched

    await command(page, "File: New Untitled Text File");
    await expect(page.locator(".editor-instance .monaco-editor.focused")).toBeVisible();
    await page.keyboard.type("the needle in the hay");
    await page.keyboard.press("Control+S");
    const input = page.locator(".quick-input-widget input");
    await expect(input).toBeFocused();
    await expect(input).toHaveValue(/^\/home\/admin\/hello\/./); // it writes its own into the field, first
    await input.fill("/home/admin/hello/saved.txt");
    await page.keyboard.press("Enter");
    await expect.poll(() => readFile(id, "hello/saved.txt")).toBe("the needle in the hay");
    await expect(page.getByRole("tab", { name: "saved.txt" })).toBeVisible(); // the editor knows it, too
    await expect(page.locator("[id='workbench.parts.auxiliarybar']")).toBeHidden(); // no chat that nobody asked for

    await command(page, "Search: Find in Files");
    await page.locator(".search-view textarea").first().fill("needle");
    await page.keyboard.press("Enter");
    await expect(page.locator(".search-view .monaco-list-row").filter({ hasText: "saved.txt" })).toBeVisible();

    await page.getByRole("tab", { name: /^Source Control/ }).click();
    await expect(page.locator(".scm-view .monaco-list-row").filter({ hasText: "made.txt" })).toBeVisible();

    // Nothing of the editor's chat, which is not in the image, runs.
    const processes = await exec(`sudo -u rockpool podman exec rockpool-${id} ps -eo args`);
    expect(processes).toContain("--type=extensionHost");
    expect(processes).not.toContain("--type=agentHost");
  });

  test("runs again after a reboot of the VM, with its files @vm @long", async ({ page }) => {
    await reboot();
    await hasStatus(id, "running");
    expect((await workspace(id)).errorMessage).toBeNull();
    expect(await readFile(id, "hello/saved.txt")).toBe("the needle in the hay");
    await page.goto(`/app/workspaces/${id}`);
    await expect(page.getByRole("link", { name: "Open IDE" })).toBeVisible();
    await openIDE(page, "hello");
    await expect(page.getByRole("treeitem", { name: "saved.txt" })).toBeVisible();
  });
});

// What Vite does as far as a proxy is concerned: a page, a module of its own,
// and a WebSocket that answers.
const server = `
const http = require("http"), crypto = require("crypto");
const page = '<!doctype html><title>app</title><p id="said">waiting</p><script type="module" src="./main.js"></script>';
const main = 'const s = new WebSocket(new URL("./live", location.href.replace(/^http/, "ws")));' +
  's.onopen = () => s.send("x"); s.onmessage = (e) => (document.getElementById("said").textContent = e.data);';
const srv = http.createServer((q, r) => {
  const js = q.url.endsWith("main.js");
  r.writeHead(200, { "Content-Type": js ? "text/javascript" : "text/html" });
  r.end(js ? main : page);
});
srv.on("upgrade", (q, s) => {
  const key = crypto.createHash("sha1").update(q.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  s.write("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + key + "\\r\\n\\r\\n");
  s.on("data", () => { const t = Buffer.from("hot " + (q.headers.authorization ? "with" : "without") + " password"); s.write(Buffer.concat([Buffer.from([0x81, t.length]), t])); });
});
srv.listen(5173, "127.0.0.1");
`;

test("a development server is seen through its port, WebSocket included @vm", async ({ page }) => {
  const w = await createWorkspace("ports");
  const inside = "sudo -u rockpool podman exec";
  await exec(`${inside} -d rockpool-${w.id} node -e "$(echo ${Buffer.from(server).toString("base64")} | base64 -d)"`);
  await exec(`${inside} rockpool-${w.id} curl --silent --fail --retry 60 --retry-connrefused --retry-delay 1 http://127.0.0.1:5173/`);
  const address = `${preview}/workspace/${w.name}/port/5173/`;
  expect((await page.request.get(address)).status(), "not registered yet").toBe(404);
  await page.goto(`/app/workspaces/${w.id}`);
  await page.getByLabel("Port", { exact: true }).fill("5173");
  await page.getByRole("button", { name: "Add port" }).click();
  const opened = page.context().waitForEvent("page");
  await page.getByRole("link", { name: "Open preview of port 5173" }).click();
  const tab = await opened;
  await expect(tab).toHaveURL(address);
  await expect(tab.getByText("hot without password")).toBeVisible();
});
