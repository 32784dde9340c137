import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

interface Bundler {
  entries: Record<string, { file: string; demo?: string }>;
  demoFile(entry: string): string;
  bundle(options?: { entry?: string; minify?: boolean; demo?: boolean }): Promise<string>;
}
const { bundle, demoFile, entries } = (await import(new URL("../../../scripts/bundle.mjs", import.meta.url).href)) as Bundler;

for (const entry of Object.keys(entries).filter((name) => entries[name]!.demo)) {
  test(`the demo page's copy of ${entry} is what \`npm run build\` makes of these sources`, async () => {
    assert.ok(readFileSync(demoFile(entry), "utf8") === (await bundle({ entry, demo: true })), "run `npm run build` and commit the result");
  });
}

test("the client is under 12,000 bytes minified and gzipped", async () => {
  const size = gzipSync(await bundle({ minify: true })).length;
  assert.ok(size < 12_000, `${size} bytes`);
});

test("the client stands alone", async () => {
  assert.doesNotMatch(await bundle(), /^import .* from /m);
});

/** What each file imports beside the core. */
const IMPORTS: Record<string, string[]> = { life: [], feed: ["./life.js"], "ag-ui": ["./feed.js", "@ag-ui/client", "rxjs"], "ai-sdk": ["./feed.js", "./life.js"], react: ["./feed.js", "./life.js", "react"], shared: [], tanstack: ["./feed.js"] };

for (const [entry, others] of Object.entries(IMPORTS)) {
  test(`${entry} imports the core as a module, so that there is one of everything, and nothing that is not named`, async () => {
    const imports = [...(await bundle({ entry })).matchAll(/ from "([^"]*)"/g)].map(([, from]) => from!);
    assert.deepEqual(new Set(imports), new Set(["./index.js", ...others]));
  });
}

test("every file of the package is looked at here", () => {
  assert.deepEqual(new Set(Object.keys(entries)), new Set(["index", ...Object.keys(IMPORTS)]));
});
