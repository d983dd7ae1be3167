// What the pages do beyond links and forms: they follow what happens, forms on
// a live page answer in place, times pass, the log flows, and repositories can
// be searched. Everything here adds to pages that work without it.
"use strict";

const body = document.body;
const skew = Date.now() - Number(body.dataset.now); // this clock minus the agent's

// Regions ------------------------------------------------------------------

// place puts new HTML into a region. A panel stays open, and focus where it
// was, when they are still there; with keep, so does what was typed.
function place({ name, hash, html }, keep) {
  const region = document.querySelector(`[data-region="${name}"]`);
  if (!region || region.dataset.hash === hash) return;
  const focused = region.contains(document.activeElement) ? document.activeElement : null;
  const panel = region.querySelector(":popover-open");
  const typed = keep ? [...region.querySelectorAll("input[id], select[id]")].map((e) => [e.id, e.value]) : [];
  region.innerHTML = html;
  region.dataset.hash = hash;
  for (const [id, value] of typed) {
    const field = document.getElementById(id);
    if (field && (field.tagName !== "SELECT" || [...field.options].some((o) => o.value === value))) field.value = value;
  }
  if (panel) document.getElementById(panel.id)?.showPopover();
  if (focused) (document.getElementById(focused.id) || document.getElementById("main")).focus({ preventScroll: true });
  tell();
}

// Events -------------------------------------------------------------------

let source = null;
let again = 0; // timer of the next attempt
let pause = 500;

function connect() {
  clearTimeout(again);
  if (source || document.hidden || !body.dataset.live) return;
  source = new EventSource(body.dataset.live);
  source.onopen = () => {
    pause = 500;
    connection("");
  };
  source.addEventListener("regions", (e) => JSON.parse(e.data).forEach((r) => place(r, true)));
  source.addEventListener("go", (e) => location.assign(JSON.parse(e.data)));
  source.onerror = () => {
    // A browser gives up on an answer that is no stream, such as that of a
    // proxy whose agent is being restarted: then this page tries itself.
    connection("The connection was lost. Trying again…");
    if (source.readyState !== EventSource.CLOSED) return;
    source = null;
    again = setTimeout(connect, pause);
    pause = Math.min(2 * pause, 5000);
  };
}

function disconnect() {
  clearTimeout(again);
  if (source) source.close();
  source = null;
}

function connection(text) {
  const line = document.getElementById("connection");
  line.textContent = text;
  line.hidden = !text;
}

// A hidden page holds no connection: browsers allow few of them.
function hide() {
  disconnect();
  document.querySelectorAll("details.log").forEach(stopLog);
}

function show() {
  connect();
  document.querySelectorAll("details.log").forEach(readLog);
}

document.addEventListener("visibilitychange", () => (document.hidden ? hide() : show()));
addEventListener("pagehide", hide);
addEventListener("pageshow", show);

// Forms --------------------------------------------------------------------

const contents = (form) => String(new URLSearchParams(new FormData(form)));

// A form is sent once, however often it is clicked. One on a live page is sent
// without leaving it. The answer is the page as it was a moment ago: regions
// that say what became of the form are taken from it; the others come by the
// events, which may have been faster.
document.addEventListener("submit", async (e) => {
  const form = e.target;
  if (form.dataset.busy) return e.preventDefault();
  if (form.method !== "post") return;
  form.dataset.busy = "1";
  if (!("live" in form.dataset)) return setTimeout(() => delete form.dataset.busy, 10000); // it was stopped
  e.preventDefault();
  const sent = contents(form);
  e.submitter?.setAttribute("aria-disabled", "true");
  form.closest("[popover]")?.hidePopover();
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(sent) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const regions = page.querySelectorAll("[data-region]");
    // A fault with a page of its own; what is gone was deleted meanwhile.
    if (!regions.length) return answer.status === 404 ? location.assign("/app/workspaces") : location.reload();
    const typed = contents(form) !== sent; // meanwhile: it stays
    if (answer.ok && !typed) form.reset();
    const follows = source?.readyState === EventSource.OPEN;
    for (const r of regions) {
      if (follows && !("answer" in r.dataset)) continue;
      place({ name: r.dataset.region, hash: r.dataset.hash, html: r.innerHTML }, typed);
    }
    document.querySelector("[aria-invalid=true]")?.focus();
  } catch {
    connection("The connection was lost. Nothing was changed; please try again.");
  } finally {
    delete form.dataset.busy;
    e.submitter?.removeAttribute("aria-disabled");
  }
});

// Times --------------------------------------------------------------------

function took(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${s.toFixed(0)} s`;
  return `${Math.floor(s / 60)} min ${String(Math.floor(s % 60)).padStart(2, "0")} s`;
}

function ago(ms) {
  const unit = (n, name) => `${n} ${name}${n === 1 ? "" : "s"} ago`;
  const minutes = Math.floor(ms / 60000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return unit(minutes, "minute");
  if (minutes < 24 * 60) return unit(Math.floor(minutes / 60), "hour");
  return unit(Math.floor(minutes / 60 / 24), "day");
}

function tell() {
  const now = Date.now() - skew;
  for (const e of document.querySelectorAll("[data-since]")) e.textContent = took(now - Number(e.dataset.since));
  for (const e of document.querySelectorAll("[data-ago]")) e.textContent = ago(now - Date.parse(e.dateTime));
}
setInterval(tell, 500);

// Log ----------------------------------------------------------------------

const maxLog = 400000; // characters kept on the page

document.addEventListener("toggle", (e) => e.target.matches?.("details.log") && readLog(e.target), true);

function stopLog(details) {
  details.querySelector("[data-log]").reading?.abort();
}

// readLog follows the log while it is open, anew whenever it ends.
async function readLog(details) {
  stopLog(details);
  if (!details.open) return;
  const pre = details.querySelector("[data-log]");
  const { signal } = (pre.reading = new AbortController());
  while (!signal.aborted && pre.isConnected) {
    await readOnce(pre, signal);
    await new Promise((resume) => setTimeout(resume, 2000));
  }
}

async function readOnce(pre, signal) {
  try {
    const answer = await fetch(pre.dataset.log, { signal });
    if (!answer.ok) {
      if (!pre.textContent) pre.textContent = "There is no log yet.\n";
      return;
    }
    pre.textContent = ""; // it begins with the last lines
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 8;
      pre.textContent = (pre.textContent + part.value).slice(-maxLog);
      if (atEnd) pre.scrollTop = pre.scrollHeight;
    }
  } catch {
    // Closed, hidden, or the connection is gone: what was read stays.
  }
}

// Repositories -------------------------------------------------------------

function searchRepositories(input) {
  const list = document.createElement("ul");
  list.id = "repositories";
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Repositories");
  const status = document.createElement("p");
  status.className = "hint";
  status.setAttribute("role", "status");
  input.after(list, status);
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-controls", list.id);
  input.setAttribute("aria-autocomplete", "list");
  let timer = 0;
  let active = -1;

  const show = (options, text = "") => {
    status.textContent = text;
    list.replaceChildren(...options);
    list.hidden = options.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    choose(-1);
  };
  const choose = (i) => {
    active = i;
    [...list.children].forEach((o, n) => o.setAttribute("aria-selected", String(n === i)));
    if (i < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", list.children[i].id);
    list.children[i].scrollIntoView({ block: "nearest" });
  };
  const take = (option) => {
    input.value = option.dataset.repo;
    input.form.requestSubmit();
  };
  const search = async (q) => {
    show([], "Searching…");
    const answer = await fetch(`/api/github/repos/search?${new URLSearchParams({ q })}`).catch(() => null);
    const result = await answer?.json().catch(() => null);
    if (q !== input.value.trim()) return;
    if (!answer?.ok || !result) return show([], "GitHub cannot be searched now. The name or address of a repository works all the same.");
    const { items } = result;
    if (!items.length) return show([], "GitHub has no public repository that fits.");
    show(items.slice(0, 8).map(({ full_name }, n) => {
      const option = document.createElement("li");
      option.id = `repository-${n}`;
      option.setAttribute("role", "option");
      option.dataset.repo = full_name;
      const owner = document.createElement("span");
      owner.textContent = full_name.split("/")[0];
      option.append(owner, ` ${full_name}`);
      return option;
    }));
  };

  show([]);
  input.addEventListener("input", () => {
    clearTimeout(timer);
    const q = input.value.trim();
    show([]);
    if (q.length < 3 || q.includes("://")) return;
    timer = setTimeout(() => search(q), 250);
  });
  input.addEventListener("keydown", (e) => {
    const n = list.children.length;
    if (list.hidden || !n) return;
    if (e.key === "ArrowDown") choose((active + 1) % n);
    else if (e.key === "ArrowUp") choose((active + n - 1) % n);
    else if (e.key === "Escape") show([]);
    else if (e.key === "Enter" && active >= 0) take(list.children[active]);
    else return;
    e.preventDefault();
  });
  list.addEventListener("click", (e) => {
    const option = e.target.closest("[role=option]");
    if (option) take(option);
  });
}

const combo = document.querySelector(".combo input");
if (combo) searchRepositories(combo);
connect();
