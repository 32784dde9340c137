// The client as readable ES modules without dependencies.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("..", import.meta.url));
const demo = (name) => fileURLToPath(new URL(`../../../gateway/src/session_fabric_gateway/demo/${name}`, import.meta.url));

/** The entries of the package: their source, their file in `dist`, and the demo page's copy. */
export const entries = {
  index: { source: "src/index.ts", file: "index.js", demo: "session-fabric.js" },
  life: { source: "src/life/index.ts", file: "life.js", demo: "session-fabric-life.js" },
};

/** Where the demo page's copy of an entry is. */
export const demoFile = (entry) => demo(entries[entry].demo);

const common = {
  absWorkingDir: here,
  bundle: true,
  format: "esm",
  target: "es2022",
  platform: "neutral",
  charset: "utf8",
  write: false,
  logLevel: "warning",
};

/** The second entry imports the first as a module beside it, so that there is one of everything. */
const beside = (path) => ({
  name: "beside",
  setup: ({ onResolve }) => onResolve({ filter: /^\.\.\/index\.js$/ }, () => ({ path, external: true })),
});

/** Return a bundle's text. */
export async function bundle({ entry = "index", minify = false, demo = false } = {}) {
  const note = "// @ts-nocheck\n// @session-fabric/client, built from clients/typescript by `npm run build`. Do not edit.";
  const core = `./${demo ? entries.index.demo : entries.index.file}`;
  const { outputFiles } = await build({
    ...common,
    entryPoints: [entries[entry].source],
    plugins: [beside(core)],
    minify,
    banner: demo ? { js: note } : {},
  });
  return outputFiles[0].text;
}
