// The stack under test, as ci/browser tells it in the environment, and what
// the tests share.
import { appendFileSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { createRequire } from "node:module";
import { expect, test as base, type Page } from "@playwright/test";

function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests with \`go tool mage e2e\``);
  return value;
}

export const stub = variable("E2E_MODE") === "stub";
export const dashboard = variable("E2E_DASHBOARD");
export const ide = variable("E2E_IDE");
export const preview = variable("E2E_PREVIEW");
export const password = variable("E2E_PASSWORD");
export const artifacts = variable("E2E_ARTIFACTS");

// Control of the machine behind the pages. A reboot may take longer than the
// five minutes that fetch waits for an answer.
function control(path: string, body = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(variable("E2E_CONTROL") + path, { method: "POST" }, async (answer) => {
      let text = "";
      for await (const part of answer.setEncoding("utf8")) text += part;
      if (answer.statusCode === 200) resolve(text);
      else reject(new Error(`${path}: ${text}`));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}
export const restartAgent = () => control("/restart-agent");
export const reboot = () => control("/reboot");
// pace gives the stub's steps a duration, so that there is a middle to look
// at. In a VM they have one.
export const pace = async (delay: string) => void (stub && (await control("/pace", delay)));
export const exec = (script: string) => control("/exec", script);

// ask sends the agent a request and returns the text of its answer.
async function ask(method: string, path: string, body?: string, type = "application/json"): Promise<string> {
  const answer = await fetch(new URL(path, dashboard), {
    method,
    headers: { Authorization: "Basic " + Buffer.from(`admin:${password}`).toString("base64"), ...(body === undefined ? {} : { "Content-Type": type }) },
    body,
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text;
}

// api asks the agent what a page is compared with.
export async function api<T>(method: string, path: string, body?: unknown): Promise<T> {
  const text = await ask(method, path, body === undefined ? undefined : JSON.stringify(body));
  return (text ? JSON.parse(text) : undefined) as T;
}

// Files of a workspace, read by the agent; one that is not there is empty. They
// are written as the workspace's user does: the agent lets nobody else.
export const readFile = (id: string, path: string) => ask("GET", `/api/runtime/${id}/readFile?path=${encodeURIComponent(path)}`).catch(() => "");
export async function writeFile(w: Workspace, path: string, content: string) {
  if (stub) return void (await ask("PUT", `${ide}/workspace/${w.name}/files/${path}`, content, "application/octet-stream"));
  const bytes = Buffer.from(content).toString("base64");
  const script = `mkdir -p "$(dirname '${path}')" && echo ${bytes} | base64 -d > '${path}'`;
  await exec(`sudo -u rockpool podman exec --workdir /home/admin rockpool-${w.id} sh -c ${JSON.stringify(script).replaceAll("$", "\\$")}`);
}

// fill makes a workspace's files take so many bytes, beside the few that the stub
// has.
export async function fill(w: Workspace, bytes: number) {
  await ask("PUT", `${ide}/workspace/${w.name}/used`, String(Math.round(bytes)), "application/octet-stream");
}

// tellStub says to the stub what a workspace's user, or an update of the VM, did.
export const tellStub = (w: Workspace, what: "installed" | "carried", said: unknown) => ask("PUT", `${ide}/workspace/${w.name}/${what}`, JSON.stringify(said), "application/octet-stream");

export type Workspace = { id: string; name: string; status: string; errorMessage: string | null; updatedAt: string };

let made = 0;
export const uniqueName = (what: string) => `${what}-${Date.now().toString(36)}-${(made++).toString(36)}`;

// idOf is the id of the workspace whose page this is.
export const idOf = (page: Page) => new URL(page.url()).pathname.split("/").pop()!;

export const workspace = (id: string) => api<Workspace>("GET", `/api/workspaces/${id}`);

export async function hasStatus(id: string, status: string) {
  await expect.poll(async () => (await workspace(id)).status, { message: `workspace ${id}` }).toBe(status);
}

// createWorkspace makes one through the API and waits until it runs.
export async function createWorkspace(what: string, more: object = {}): Promise<Workspace> {
  const w = await api<Workspace>("POST", "/api/workspaces", { name: uniqueName(what), image: "", ...more });
  await hasStatus(w.id, "running");
  return workspace(w.id);
}

// removeWorkspaces leaves nothing behind for the next test.
export async function removeWorkspaces() {
  const all = async () => (await api<{ items: Workspace[] }>("GET", "/api/workspaces?limit=100")).items;
  await expect
    .poll(async () => {
      const left = await all();
      for (const w of left) {
        const path = `/api/workspaces/${w.id}`;
        const step = w.status === "running" ? api("POST", `${path}/stop`) : w.status === "creating" ? null : api("DELETE", path);
        await step?.catch(() => undefined); // it moved on meanwhile: the next look tells
      }
      return left.length;
    })
    .toBe(0);
}

// figure keeps a measurement for doc/benchmarks.md.
export function figure(name: string, value: number, unit: string) {
  const line = `${name}: ${value < 10 ? value.toFixed(2) : Math.round(value)} ${unit}`;
  console.log(`figure  ${line}`);
  appendFileSync(`${artifacts}/figures.txt`, line + "\n");
}

// Accessibility, checked in whatever state the page is in.
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
type Violation = { id: string; impact: string; nodes: { target: string[]; failureSummary: string }[] };

export async function expectAccessible(page: Page) {
  await page.evaluate(axe); // not a script element: the page's policy allows none
  const violations = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run(): Promise<{ violations: Violation[] }> } };
    return (await axe.run()).violations;
  });
  const grave = violations.filter((v) => v.impact === "serious" || v.impact === "critical");
  expect(grave.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join("; ")}`)).toEqual([]);
}

// test fails when a page of the dashboard writes an error to the console or
// asks another host for something, or when an extension of the IDE does not
// start. A test that breaks the connection itself says so with
// test.use({ quiet: false }).
export const test = base.extend<{ quiet: boolean; watched: void }>({
  quiet: [true, { option: true }],
  watched: [
    async ({ context, quiet }, use) => {
      const faults: string[] = [];
      context.on("console", (m) => {
        if (m.type() === "error" && m.location().url.startsWith(dashboard)) faults.push(m.text());
        else if (/Activating extension .* failed/.test(m.text())) faults.push(m.text());
      });
      context.on("weberror", (e) => {
        if (e.page()?.url().startsWith(dashboard)) faults.push(String(e.error()));
      });
      context.on("request", (r) => {
        if (r.isNavigationRequest() || r.serviceWorker()) return; // neither has a page
        const from = r.frame().page().url();
        if (from.startsWith(dashboard) && !r.url().startsWith(dashboard) && !r.url().startsWith("data:"))
          faults.push(`${from} asked ${r.url()}`);
      });
      await use();
      if (quiet) expect(faults).toEqual([]);
    },
    { auto: true },
  ],
});

export { expect };
