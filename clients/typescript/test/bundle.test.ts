import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

interface Bundler {
  entries: Record<string, unknown>;
  demoFile(entry: string): string;
  bundle(options?: { entry?: string; minify?: boolean; demo?: boolean }): Promise<string>;
}
const { bundle, demoFile, entries } = (await import(new URL("../../../scripts/bundle.mjs", import.meta.url).href)) as Bundler;

for (const entry of Object.keys(entries)) {
  test(`the demo page's copy of ${entry} is what \`npm run build\` makes of these sources`, async () => {
    assert.ok(readFileSync(demoFile(entry), "utf8") === (await bundle({ entry, demo: true })), "run `npm run build` and commit the result");
  });
}

test("the client is under 12 KiB minified and gzipped", async () => {
  const size = gzipSync(await bundle({ minify: true })).length;
  assert.ok(size < 12 * 1024, `${size} bytes`);
});

test("the client stands alone", async () => {
  assert.doesNotMatch(await bundle(), /^import .* from /m);
});

test("the second entry imports the first and nothing else", async () => {
  const imports = (await bundle({ entry: "life" })).match(/ from "[^"]*"/g);
  assert.deepEqual(new Set(imports), new Set([' from "./index.js"']));
});
