// What the guides say of our own transports, as they say it, in two tabs each, over a real gateway, broker and agent.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import type { Chat } from "@ai-sdk/react";
import type { ChatClient } from "@tanstack/ai-client";
import type { UIMessage } from "ai";
import { build } from "esbuild";
import type { FabricAgent } from "../src/ag-ui/index.js";
import { type Client, newId } from "../src/index.js";
import { eventually, served } from "./dev.js";

const ROOT = new URL("../../../", import.meta.url);
const OUT = new URL(".cache/build/guides/", ROOT);
const QUESTION = "What is an offset?";
const { server, closes } = await served();

/** Runs a guide's `ts` blocks as one module; returns what they export. Each call is a tab of its own. */
async function tab<Exports>(name: string): Promise<Exports & { client: Client }> {
  const page = readFileSync(new URL(`../../docs/guides/${name}.md`, ROOT), "utf8");
  const blocks = [...page.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code]) => code);
  assert.ok(blocks.length > 0, `${name}.md has no ts blocks`);
  mkdirSync(OUT, { recursive: true });
  const file = new URL(`${name}-${newId("tab")}`, OUT).pathname;
  const source = blocks.join("\n").replaceAll("https://gateway.example", server.url);
  writeFileSync(`${file}.ts`, `const token = async () => ${JSON.stringify(server.token)};\n${source}`);
  const src = new URL("src/", ROOT).pathname;
  const entries = ["ai-sdk", "tanstack", "ag-ui"].map((entry) => [`@session-fabric/client/${entry}`, `${src}${entry}/index.ts`]);
  await build({
    entryPoints: [`${file}.ts`],
    outfile: `${file}.mjs`,
    bundle: true,
    format: "esm",
    target: "node20",
    platform: "node",
    alias: { ...Object.fromEntries(entries), "@session-fabric/client": `${src}index.ts` },
    external: ["@ag-ui/*", "@ai-sdk/*", "@tanstack/*", "ai", "rxjs"],
    logLevel: "warning",
  });
  const exported = await import(pathToFileURL(`${file}.mjs`).href);
  closes.push(() => exported.client.close());
  return exported;
}

test("AI SDK: a tab that is idle shows what another one is told", async () => {
  const [one, other] = [await tab<{ chat: Chat<UIMessage>; leave(): void }>("ai-sdk"), await tab<{ chat: Chat<UIMessage>; leave(): void }>("ai-sdk")];
  await one.chat.sendMessage({ text: QUESTION });
  assert.equal(one.chat.error, undefined);
  const texts = ({ chat }: typeof one): string[] =>
    chat.messages.map(({ parts }) => parts.map((part) => (part.type === "text" ? part.text : "")).join(""));
  assert.ok(texts(one).length === 2 && texts(one)[1], JSON.stringify(texts(one)));
  await eventually(() => JSON.stringify(texts(other)) === JSON.stringify(texts(one)));
  for (const { leave } of [one, other]) leave();
});

test("TanStack AI: a tab that is idle shows what another one is told", async () => {
  const [one, other] = [await tab<{ chat: ChatClient }>("tanstack-ai"), await tab<{ chat: ChatClient }>("tanstack-ai")];
  await one.chat.sendMessage(QUESTION);
  const texts = ({ chat }: typeof one): string[] =>
    chat.getMessages().map(({ parts }) => parts.map((part) => (part.type === "text" ? part.content : "")).join(""));
  assert.ok(texts(one).length === 2 && texts(one)[1], JSON.stringify(texts(one)));
  await eventually(() => JSON.stringify(texts(other)) === JSON.stringify(texts(one)));
  for (const { chat } of [one, other]) chat.dispose();
});

test("AG-UI: who connects later has what was said", async () => {
  const one = await tab<{ agent: FabricAgent }>("ag-ui");
  one.agent.addMessage({ id: newId("m"), role: "user", content: QUESTION });
  await one.agent.runAgent();
  const texts = ({ agent }: typeof one): unknown[] => agent.messages.filter(({ role }) => role === "user" || role === "assistant").map(({ content }) => content);
  const other = await tab<{ agent: FabricAgent }>("ag-ui");
  assert.ok(texts(one).includes(QUESTION) && texts(one).length > 1, JSON.stringify(texts(one)));
  assert.deepEqual(texts(other), texts(one));
  for (const { agent } of [one, other]) agent.close();
});
