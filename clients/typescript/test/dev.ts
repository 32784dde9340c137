import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

const BIN = new URL("../../../../../.venv/bin/", import.meta.url);
const FABRICCTL = fileURLToPath(new URL("fabricctl", BIN));
const AGENT = fileURLToPath(new URL("../../../test/agent.py", import.meta.url));

export interface Dev {
  readonly url: string;
  readonly token: string;
  readonly nats: string;
  readonly nats_credentials: string;
  readonly gateway_pid: number;
  /** A token for somebody else than `token` is for; `sessions`: what it grants there, else what his role is granted. */
  tokenFor(participant: string, sessions?: Record<string, string[]>, seconds?: number): string;
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
    tokenFor: (participant, sessions, seconds) => sign(participant, readFileSync(join(data, "secret"), "utf8").trim(), sessions, seconds),
    async stop() {
      child.kill("SIGTERM");
      await ended;
      rmSync(data, { recursive: true, force: true });
    },
  };
}

/** What an agent is to do in a run of its own: see agent.py. */
export interface Order {
  readonly do: "approve" | "tool" | "listen" | "deaf";
  readonly session: string;
  readonly run: string;
  readonly to?: unknown;
  readonly tool?: string;
  readonly args?: unknown;
}

export interface Agent {
  /** Have a `wait` in a script of the session go on: see `follow_script` in agent.py. */
  release(session: string): void;
  /** Returns what came of it. */
  order(order: Order): Promise<unknown>;
  stop(): Promise<void>;
}

/** Start an agent that does what it is told, beside the demo's. */
export async function agent(dev: Dev): Promise<Agent> {
  const child = spawn(fileURLToPath(new URL("python", BIN)), [AGENT, dev.nats], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, SESSION_FABRIC_NATS_CREDENTIALS: dev.nats_credentials },
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const waiting = new Map<string, (said: unknown) => void>();
  const first = firstLine(child);
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { run, said } = JSON.parse(line);
    waiting.get(run)?.(said);
  });
  await first;
  return {
    release(session) {
      child.stdin.write(`${JSON.stringify({ do: "release", session })}\n`);
    },
    order(order) {
      child.stdin.write(`${JSON.stringify(order)}\n`);
      return new Promise((resolve) => waiting.set(order.run, resolve));
    },
    async stop() {
      child.stdin.end();
      await ended;
    },
  };
}

export interface Served {
  readonly server: Dev;
  /** Called when a file's tests are over, the last that came first; then the gateway ends. */
  readonly closes: (() => unknown)[];
}

/** Start what `dev` does for all tests of a file. */
export async function served(): Promise<Served> {
  const server = await dev();
  const closes: (() => unknown)[] = [];
  after(async () => {
    for (const close of closes.reverse()) await close();
    await server.stop();
  });
  return { server, closes };
}

/** The same with an agent of `agent.py`. */
export async function scripted(): Promise<Served & { readonly script: Agent }> {
  const { server, closes } = await served();
  const script = await agent(server);
  closes.push(() => script.stop());
  return { server, closes, script };
}

function sign(participant: string, secret: string, sessions?: object, seconds = 3600): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: participant, tenant: "default", iat: now, exp: now + seconds, sessions })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
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
    child.once("exit", (code) => reject(new Error(`${child.spawnfile} ended with ${code}: ${log}`)));
  });
}

/** The first event of a type in a session's log, as far as there is one. */
export async function asked({ url, token }: Dev, session: string, type: string): Promise<Record<string, string | null> | undefined> {
  const answer = await fetch(`${url}/v1/sessions/${session}/events?limit=100`, { headers: { Authorization: `Bearer ${token}` } });
  const { events = [] } = (await answer.json()) as { events?: { type: string; body: Record<string, string | null> }[] };
  return events.find((event) => event.type === type)?.body;
}

/** Wait for what must become true. */
export async function eventually(condition: () => unknown, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not true within ${timeoutMs} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
