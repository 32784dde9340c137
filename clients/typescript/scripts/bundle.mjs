// The client as readable ES modules without dependencies.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("..", import.meta.url));
const demo = (name) => fileURLToPath(new URL(`../../../gateway/src/session_fabric_gateway/demo/${name}`, import.meta.url));

/** The files of the package: their source, their file in `dist`, and the demo page's copy where it has one. `feed` is no entry: the others share it. */
export const entries = {
  index: { source: "src/index.ts", file: "index.js", demo: "session-fabric.js" },
  life: { source: "src/life/index.ts", file: "life.js", demo: "session-fabric-life.js" },
  feed: { source: "src/feed/index.ts", file: "feed.js" },
  "ag-ui": { source: "src/ag-ui/index.ts", file: "ag-ui.js" },
  "ai-sdk": { source: "src/ai-sdk/index.ts", file: "ai-sdk.js" },
  shared: { source: "src/shared/index.ts", file: "shared.js" },
  react: { source: "src/react/index.ts", file: "react.js" },
  tanstack: { source: "src/tanstack/index.ts", file: "tanstack.js" },
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

/** They import each other as modules beside them, so that there is one of everything, and what is not ours from where it is. */
const beside = (demo) => ({
  name: "beside",
  setup: ({ onResolve }) => {
    onResolve({ filter: /^\.\.\/([\w-]+\/)?index\.js$/ }, ({ path }) => {
      const entry = entries[path.slice(3).replace(/\/?index\.js$/, "") || "index"];
      return { path: `./${demo ? entry.demo : entry.file}`, external: true };
    });
    onResolve({ filter: /^[^.]/, namespace: "file" }, ({ path, kind }) => (kind === "entry-point" ? undefined : { path, external: true }));
  },
});

/** Return a bundle's text. */
export async function bundle({ entry = "index", minify = false, demo = false } = {}) {
  const note = "// @ts-nocheck\n// @session-fabric/client, built from clients/typescript by `npm run build`. Do not edit.";
  const { outputFiles } = await build({
    ...common,
    entryPoints: [entries[entry].source],
    plugins: [beside(demo)],
    minify,
    banner: demo ? { js: note } : {},
  });
  return outputFiles[0].text;
}
