import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

interface Bundler {
  demoFile: string;
  bundle(options?: { minify?: boolean; demo?: boolean }): Promise<string>;
}
const { bundle, demoFile } = (await import(new URL("../../../scripts/bundle.mjs", import.meta.url).href)) as Bundler;

test("the demo page's copy of the client is what `npm run build` makes of these sources", async () => {
  assert.ok(readFileSync(demoFile, "utf8") === (await bundle({ demo: true })), "run `npm run build` and commit the result");
});

test("the client is under 12 kB minified and gzipped", async () => {
  const size = gzipSync(await bundle({ minify: true })).length;
  assert.ok(size < 12_000, `${size} bytes`);
});

test("the client stands alone", async () => {
  assert.doesNotMatch(await bundle(), /^import .* from /m);
});
