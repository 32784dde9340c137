import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const FABRICCTL = fileURLToPath(new URL("../../../../../.venv/bin/fabricctl", import.meta.url));

export interface Dev {
  readonly url: string;
  readonly token: string;
  readonly gateway_pid: number;
  stop(): Promise<void>;
}

/** Start broker, gateway and demo agent on free ports and a directory of their own. */
export async function dev(): Promise<Dev> {
  assert.ok(existsSync(FABRICCTL), `${FABRICCTL} is missing: run \`make test\` once, or \`uv sync\``);
  const data = mkdtempSync(join(tmpdir(), "session-fabric-"));
  const child = spawn(FABRICCTL, ["dev", "--port", "0", "--data", data, "--json"], { stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const said = await firstLine(child);
  return {
    ...JSON.parse(said),
    async stop() {
      child.kill("SIGTERM");
      await ended;
      rmSync(data, { recursive: true, force: true });
    },
  };
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let out = "";
    let log = "";
    child.stderr?.on("data", (text) => (log += text));
    child.stdout?.on("data", (text) => {
      out += text;
      if (out.includes("\n")) resolve(out.slice(0, out.indexOf("\n")));
    });
    child.once("exit", (code) => reject(new Error(`fabricctl dev ended with ${code}: ${log}`)));
  });
}

/** Wait for what must become true. */
export async function eventually(condition: () => unknown, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not true within ${timeoutMs} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
