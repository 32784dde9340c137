// TanStack AI's own chats over a real gateway, broker and agent.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type StreamChunk, toolDefinition } from "@tanstack/ai/client";
import { type AnyClientTool, ChatClient, type UIMessage } from "@tanstack/ai-client";
import { z } from "zod";
import { connect, newId } from "../src/index.js";
import { type ConnectionOptions, type FabricConnection, fabricConnection } from "../src/tanstack/index.js";
import { type Feed, feedOf, runOf } from "../src/feed/index.js";
import { asked, eventually, scripted } from "./dev.js";

const { server, script, closes } = await scripted();

interface Page {
  readonly chat: ChatClient;
  readonly connection: FabricConnection;
  close(): void;
}

/** A chat that is subscribed to a session, on another device than every other one. */
function page(session: string, tools: AnyClientTool[] = [], options: ConnectionOptions = {}): Page {
  const client = connect({ url: server.url, token: server.token });
  const connection = fabricConnection(client.session(session), { pool: "script", ...options });
  const chat = new ChatClient({ connection, threadId: session, tools });
  chat.subscribe();
  const close = (): void => (chat.dispose(), connection.close(), client.close());
  closes.push(close);
  return { chat, connection, close };
}

const textOf = (message: UIMessage | undefined): string => (message?.parts ?? []).map((part) => (part.type === "text" ? part.content : "")).join("");
const lastText = ({ chat }: Page): string => textOf(chat.getMessages().at(-1));
const shown = ({ chat }: Page): unknown[] => chat.getMessages().map((message) => [message.role, textOf(message).trim()]);

test("an answer streams into the chat, with what was thought and what tools found", async () => {
  const one = page(newId("s"));
  await one.chat.sendMessage('think Hm.\nlook search {"q":1}\nsay one two');
  assert.deepEqual(shown(one), [["user", 'think Hm.\nlook search {"q":1}\nsay one two'], ["assistant", "one two"]]);
  const parts = one.chat.getMessages().at(-1)!.parts.map(({ type }) => type);
  assert.ok(parts.includes("thinking") && parts.includes("tool-call") && parts.includes("tool-result"), String(parts));
  assert.equal(one.chat.getStatus(), "ready");
});

test("a page that is loaded in the middle of an answer has all of it", async () => {
  const session = newId("s");
  const first = page(session);
  void first.chat.sendMessage("say one two\nwait\nsay three");
  await eventually(() => lastText(first) === "one two ");
  first.close();
  const second = page(session);
  await eventually(() => lastText(second) === "one two ");
  script.release(session);
  await eventually(() => !second.chat.getSessionGenerating());
  assert.deepEqual(shown(second), [["user", "say one two\nwait\nsay three"], ["assistant", "one two three"]]);
});

test("runs of another page arrive as they happen, also while a message of one's own waits", async () => {
  const session = newId("s");
  const [a, b] = [page(session), page(session)];
  const first = a.chat.sendMessage("think Hm.\nsay one\nwait\nsay two");
  await eventually(() => lastText(b) === "one ");
  const second = b.chat.sendMessage("say three\nwait\nsay four");
  script.release(session);
  await first;
  await eventually(() => lastText(b) === "three ");
  assert.equal(b.chat.getIsLoading(), true);
  script.release(session);
  await second;
  const all = [["user", "think Hm.\nsay one\nwait\nsay two"], ["assistant", "one two"], ["user", "say three\nwait\nsay four"], ["assistant", "three four"]];
  for (const one of [a, b]) await eventually(() => JSON.stringify(shown(one)) === JSON.stringify(all));
});

test("stopping the chat leaves the run alive, stopping the run says what became of it", async () => {
  const session = newId("s");
  const one = page(session);
  void one.chat.sendMessage("say one\nwait\nsay two\nwait");
  await eventually(() => lastText(one) === "one ");
  one.chat.stop();
  script.release(session);
  const other = page(session);
  await eventually(() => lastText(other) === "one two ");
  assert.equal((await other.connection.stop())?.outcome, "accepted");
  await eventually(() => lastText(one) === "one two ");
  assert.equal(await other.connection.stop(), null);
});

for (const way of ["the connection's stop()", "the chat's stop(), where that interrupts"]) {
  test(`a message that nobody has taken is stopped for whoever comes: ${way}`, async () => {
    const session = newId("s");
    const one = page(session, [], { pool: "nobody", onAbort: "interrupt" });
    void one.chat.sendMessage("hello");
    await eventually(() => asked(server, session, "message.user"));
    const stopped = /connection/.test(way) ? one.connection.stop() : one.chat.stop();
    await eventually(() => asked(server, session, "control.requested"));
    const { deadline_ms, run } = (await asked(server, session, "control.requested"))!;
    assert.equal(deadline_ms, null);
    assert.equal(run, await runOf(one.chat.getMessages()[0]!.id));
    assert.equal(await script.order({ do: "deaf", session, run: String(run) }), "stopped");
    if (/connection/.test(way)) assert.equal(((await stopped) as { outcome: string }).outcome, "accepted");
  });
}

test("a tool of the page is run by one of two pages, and both show what came of it", async () => {
  const session = newId("s");
  const ran: string[] = [];
  const [a, b] = ["a", "b"].map((name) => {
    const locate = toolDefinition({ name: "locate", description: "Where it is.", inputSchema: z.object({}) }).client(() => (ran.push(name), { lat: 48 }));
    return page(session, [locate as AnyClientTool]);
  }) as [Page, Page];
  void a.chat.sendMessage("say Where\ntool locate {}");
  for (const one of [a, b]) await eventually(() => lastText(one).includes('It is {"lat": 48}.'));
  assert.equal(ran.length, 1);
});

/** A chat that reads slowly: behind each chunk it waits for what `then` does. */
function slow(session: string, then: (chunk: StreamChunk, feed: Feed) => Promise<unknown> | undefined): ChatClient {
  const client = connect({ url: server.url, token: server.token });
  const connection = fabricConnection(client.session(session), { pool: "script" });
  async function* subscribe(signal?: AbortSignal): AsyncGenerator<StreamChunk> {
    for await (const chunk of connection.subscribe(signal)) {
      yield chunk;
      await then(chunk, feedOf(connection.session));
    }
  }
  const chat = new ChatClient({ connection: { subscribe, send: connection.send }, threadId: session });
  chat.subscribe();
  closes.push(() => (chat.dispose(), connection.close(), client.close()));
  return chat;
}

test("what a run has said before it asks is shown, however slowly the chat reads", async () => {
  const session = newId("s");
  const chat = slow(session, ({ type }, feed) => {
    if (type !== "RUN_STARTED") return undefined;
    script.release(session);
    return eventually(() => feed.active?.state === "suspended" && feed.requests.open.length === 1);
  });
  await chat.sendMessage("wait\nsay I found 3.\napprove Delete 3 files?");
  await eventually(() => chat.getInterrupts().length === 1);
  assert.equal(textOf(chat.getMessages().at(-1)).trim(), "I found 3.");
});

test("what a run has said since another page answered it is shown, however slowly the chat reads", async () => {
  const session = newId("s");
  const other = connect({ url: server.url, token: server.token });
  closes.push(() => other.close());
  const chat = slow(session, async ({ type }, feed) => {
    const [open] = feed.requests.open;
    if (type !== "TEXT_MESSAGE_END" || open === undefined) return;
    await other.http.json("POST", `/v1/sessions/${session}/requests/${open.request}/answer`, { body: { body: { approved: true } } });
    await eventually(() => feed.active === undefined);
  });
  void chat.sendMessage("say Well\napprove Delete 3 files?");
  await eventually(() => /^Well Granted by/.test(textOf(chat.getMessages().at(-1))));
  assert.equal(chat.getSessionGenerating(), false);
});

test("an approval is an interrupt, resolved on whatever page shows it", async () => {
  const session = newId("s");
  const [a, b] = [page(session), page(session)];
  void a.chat.sendMessage("say Well\napprove Delete 3 files?");
  for (const { chat } of [a, b]) await eventually(() => chat.getInterrupts().length === 1);
  const interrupt = b.chat.getInterrupts()[0] as unknown as { id: string; message: string; resolveInterrupt(payload: unknown): unknown };
  assert.equal(interrupt.message, "Delete 3 files?");
  await interrupt.resolveInterrupt({ approved: true });
  for (const one of [a, b]) await eventually(() => /^Well Granted by/.test(lastText(one)));
});
