// What there is in the guest, as one object of JSON: the database, containers,
// files, mounts, processes, and the files in workspaces' homes. It changes
// nothing, and runs as root.
"use strict";
const fs = require("node:fs"), path = require("node:path");
const { execFileSync } = require("node:child_process");
const { DatabaseSync } = require("node:sqlite");

const uid = Number(execFileSync("id", ["-u", "rockpool"], { encoding: "utf8" }));
const rockpool = (...argv) => execFileSync("sudo", ["-u", "rockpool", `XDG_RUNTIME_DIR=/run/user/${uid}`, ...argv], { encoding: "utf8", cwd: "/" });
const lines = (text) => text.split("\n").filter((l) => l !== "");

// The folder of a home directory whose files are wanted, and single files.
const [folder, ...preferences] = process.argv.slice(2);

function database() {
  const db = new DatabaseSync("/opt/rockpool/rockpool.db", { readOnly: true, timeout: 30000 });
  const all = (sql) => db.prepare(sql).all();
  const found = {
    Integrity: all("PRAGMA integrity_check").map((r) => r.integrity_check),
    Foreign: all("PRAGMA foreign_key_check").length,
    Jobs: all("SELECT workspace_id, kind, state, last_error FROM job WHERE state <> 'parked'").map((r) => Object.values(r).join(" ")),
    Rows: Object.fromEntries(all("SELECT id, status FROM workspace").map((r) => [r.id, r.status])),
  };
  db.close();
  return found;
}

function content(file) {
  try {
    return fs.readFileSync(file, "utf8").replace(/\n$/, "");
  } catch (e) {
    if (e.code === "ENOENT" || e.code === "ENOTDIR") return undefined;
    throw e;
  }
}

function home(dir) {
  const files = {}, preference = {};
  let names = [];
  try {
    names = fs.readdirSync(path.join(dir, folder));
  } catch (e) {
    if (e.code !== "ENOENT") throw e;
  }
  for (const n of names.filter((n) => !n.endsWith(".new"))) files[`${folder}/${n}`] = content(path.join(dir, folder, n));
  for (const p of preferences) {
    const c = content(path.join(dir, p));
    if (c !== undefined) preference[p] = c;
  }
  return { Files: files, Preferences: preference };
}

function processes(containers) {
  const found = { Monitors: 0, Networks: 0, Strays: [] };
  for (const pid of fs.readdirSync("/proc").filter((n) => /^\d+$/.test(n))) {
    let argv, owner, cgroup;
    try {
      argv = fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      owner = fs.statSync(`/proc/${pid}`).uid;
      cgroup = fs.readFileSync(`/proc/${pid}/cgroup`, "utf8");
    } catch {
      continue; // it has ended
    }
    const name = path.basename(argv[0] ?? "");
    if (owner === uid && name === "conmon" && !argv.includes("-e") && !argv.includes("--exec-attach")) found.Monitors++;
    if (owner === uid && /^(pasta|passt|slirp4netns)/.test(name)) found.Networks++;
    if (owner >= 100000 && argv[0] && !containers.some((id) => cgroup.includes(id))) found.Strays.push(`${pid} ${argv.join(" ")}`);
  }
  return found;
}

const containers = {}, running = [];
for (const l of lines(rockpool("podman", "ps", "--all", "--external", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"))) {
  const [id, name, ...state] = l.split(" ");
  containers[name] = state.join(" ");
  if (containers[name] === "running") running.push(id);
}

const disk = "/var/lib/rockpool/workspaces";
const files = fs.readdirSync(`${disk}/pool/files`);
const homes = Object.fromEntries(files.map((id) => [id, home(`${disk}/pool/files/${id}/home/upper`)]));

// What is shown for workspaces whose container does not run, in any namespace.
const shown = new Set();
for (const pid of fs.readdirSync("/proc").filter((n) => /^\d+$/.test(n))) {
  let table;
  try {
    table = fs.readFileSync(`/proc/${pid}/mountinfo`, "utf8");
  } catch {
    continue; // it has ended
  }
  for (const [, id] of table.matchAll(/upperdir=[^,]*\/pool\/files\/([0-9a-z]+)\//g)) shown.add(id);
}
const mounts = [...shown].filter((id) => containers[`rockpool-${id}`] !== "running");
console.log(JSON.stringify({
  ...database(),
  Containers: containers,
  Kept: files,
  Homes: homes,
  ...processes(running),
  Mounts: mounts,
  // A lock's file stays; what was written under the lock does not.
  Temporary: fs.readdirSync("/opt/rockpool").filter((n) => /tmp|\.new$|backup/.test(n) && !n.endsWith(".lock")),
}));
