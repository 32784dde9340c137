// Runs a guide's `js` blocks as one module, in order, against the gateway of the test.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { GATEWAY, TOKENS } from "./house.mjs";

/** Returns what the blocks export; `token()` is there, and the gateway of the page is ours. */
export async function guide(name) {
  const page = readFileSync(new URL(`../../../docs/guides/${name}`, import.meta.url), "utf8");
  const blocks = [...page.matchAll(/^```js\n(.*?)^```/gms)].map(([, code]) => code);
  if (blocks.length === 0) throw new Error(`${name} has no js blocks`);
  const source = blocks.join("\n").replaceAll("https://gateway.example", GATEWAY);
  // Beside the packages, which it imports by name.
  const directory = new URL("./node_modules/.guides/", import.meta.url);
  mkdirSync(directory, { recursive: true });
  const file = new URL(`${name}-${process.pid}.mjs`, directory);
  writeFileSync(file, `const token = async () => ${JSON.stringify(TOKENS.ada)};\n${source}`);
  try {
    return await import(/* @vite-ignore */ pathToFileURL(file.pathname).href);
  } finally {
    rmSync(file);
  }
}
