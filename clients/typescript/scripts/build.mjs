import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { bundle, demoFile, entries } from "./bundle.mjs";

process.chdir(new URL("..", import.meta.url).pathname);
rmSync("dist", { recursive: true, force: true });
mkdirSync("dist", { recursive: true });
for (const entry of Object.keys(entries)) {
  writeFileSync(`dist/${entries[entry].file}`, await bundle({ entry }));
  if (entries[entry].demo) writeFileSync(demoFile(entry), await bundle({ entry, demo: true }));
}
execFileSync(
  process.execPath,
  ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json", "--emitDeclarationOnly", "--outDir", "dist/types"],
  { stdio: "inherit" },
);
for (const entry of Object.keys(entries)) {
  console.log(`dist/${entries[entry].file}: ${gzipSync(await bundle({ entry, minify: true })).length} bytes minified and gzipped`);
}
