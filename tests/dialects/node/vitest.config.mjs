import { defineConfig } from "vitest/config";

// The test that expects it looks at it: see "after a cut" in agui.test.mjs.
const onUnhandledError = (error) => error.message !== "terminated";

export default defineConfig({
  test: { include: ["*.test.mjs"], testTimeout: 60_000, hookTimeout: 60_000, onUnhandledError },
});
