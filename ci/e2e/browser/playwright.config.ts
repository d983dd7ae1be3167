import { defineConfig } from "@playwright/test";
import { artifacts, dashboard, password, stub } from "./tests/stack";

// The tests share one machine, so they run one after another. None is tried
// again: a test that fails at times is a fault.
export default defineConfig({
  testDir: "tests",
  outputDir: `${artifacts}/results`,
  workers: 1,
  retries: 0,
  forbidOnly: true,
  // Limits that fail a test; nothing waits for them to pass. They are wide
  // because a VM without KVM and a machine that is busy are ten times slower.
  timeout: stub ? 300_000 : 1_800_000,
  expect: { timeout: stub ? 60_000 : 300_000 },
  // What needs no container is tested with the stub; in the VM only what is
  // different there.
  ...(stub ? { grepInvert: /@vm/ } : { grep: /@vm|@both/ }),
  reporter: [["list"]],
  use: {
    baseURL: dashboard,
    httpCredentials: { username: "admin", password },
    locale: "en-GB",
    timezoneId: "UTC",
    trace: { mode: "retain-on-failure", screenshots: false, snapshots: true, sources: false },
    contextOptions: { reducedMotion: "reduce" }, // drawing without a GPU is most of the work
    screenshot: "only-on-failure",
    navigationTimeout: stub ? 60_000 : 300_000,
    launchOptions: {
      executablePath: process.env.E2E_CHROMIUM,
      args: [
        ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
