import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { bundle, demoFile } from "./bundle.mjs";

process.chdir(new URL("..", import.meta.url).pathname);
rmSync("dist", { recursive: true, force: true });
mkdirSync("dist", { recursive: true });
writeFileSync("dist/index.js", await bundle());
writeFileSync(demoFile, await bundle({ demo: true }));
execFileSync(
  process.execPath,
  ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json", "--emitDeclarationOnly", "--outDir", "dist/types"],
  { stdio: "inherit" },
);
console.log(`dist/index.js: ${gzipSync(await bundle({ minify: true })).length} bytes minified and gzipped`);
