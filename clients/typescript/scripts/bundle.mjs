// The demo page's copy of the client: one readable ES module without dependencies.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("..", import.meta.url));
export const demoFile = fileURLToPath(
  new URL("../../../gateway/src/session_fabric_gateway/demo/session-fabric.js", import.meta.url),
);

const common = {
  absWorkingDir: here,
  entryPoints: ["src/index.ts"],
  bundle: true,
  format: "esm",
  target: "es2022",
  platform: "neutral",
  charset: "utf8",
  write: false,
  logLevel: "warning",
};

/** Return the bundle's text. */
export async function bundle({ minify = false, demo = false } = {}) {
  const note = "// @ts-nocheck\n// @session-fabric/client, built from clients/typescript by `npm run build`. Do not edit.";
  const { outputFiles } = await build({ ...common, minify, banner: demo ? { js: note } : {} });
  return outputFiles[0].text;
}
