// Bundles the page of the directory that it is called in: `src/main.jsx` to `page/main.js` and `page/main.css`.
import { fileURLToPath } from "node:url";

// The build is the example's own, as are the frameworks; our client is taken from this checkout.
const packages = process.env.NODE_PATH ?? `${process.cwd()}/node_modules`;
const { build } = await import(`${packages}/esbuild/lib/main.js`).then((found) => found.default ?? found);
const client = (entry) => fileURLToPath(new URL(`../../clients/typescript/src/${entry}`, import.meta.url));

await build({
  entryPoints: ["src/main.jsx"],
  outdir: process.argv[2] ?? "page",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"production"' },
  nodePaths: [packages],
  alias: {
    "@session-fabric/client/ai-sdk": client("ai-sdk/index.ts"),
    "@session-fabric/client/tanstack": client("tanstack/index.ts"),
    "@session-fabric/client": client("index.ts"),
  },
});
