// Builds the tests and runs them with Node's own runner; arguments go to the runner, but for the names of the files to run.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";

process.chdir(new URL("..", import.meta.url).pathname);
// Not under node_modules: from Node 22 on the runner finds no tests there.
const out = ".cache/build/tests";
rmSync(out, { recursive: true, force: true });
const only = process.argv.filter((arg) => arg.endsWith(".test.ts"));
const tests = readdirSync("test").filter((name) => name.endsWith(".test.ts") && (only.length === 0 || only.includes(name)));
const entries = tests.map((name) => ({ in: `test/${name}`, out: name.replace(/\.ts$/, "") }));
const common = { bundle: true, format: "esm", target: "node20", platform: "node", sourcemap: "inline", outdir: out, outExtension: { ".js": ".mjs" }, logLevel: "warning" };
await build({ ...common, entryPoints: entries, packages: "external" });
// The hooks once more on React 18, which is bundled in so that its DOM finds it too.
const react18 = entries.filter((entry) => entry.out.startsWith("react.")).map((entry) => ({ ...entry, out: entry.out.replace("react", "react18") }));
await build({
  ...common,
  entryPoints: react18,
  alias: { react: "react18", "react-dom": "react-dom18" },
  define: { "process.env.REACT": '"18"' },
  external: ["happy-dom"],
});
const files = [...entries, ...react18].map((entry) => `${out}/${entry.out}.mjs`);
const flags = ["--enable-source-maps", "--experimental-websocket", "--no-warnings", "--test", "--test-timeout=180000"];
const { status } = spawnSync(process.execPath, [...flags, ...process.argv.slice(2).filter((arg) => !only.includes(arg)), ...files], { stdio: "inherit" });
process.exit(status ?? 1);
