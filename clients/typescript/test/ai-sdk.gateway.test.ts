// The AI SDK's own chats over a real gateway, broker and agent.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Chat } from "@ai-sdk/react";
import { type ChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses, lastAssistantMessageIsCompleteWithToolCalls, type UIMessage } from "ai";
import type { ChatTransport as ChatTransport6, UIMessage as UIMessage6 } from "ai6";
import { type ConnectOptions, connect, newId } from "../src/index.js";
import { FabricChatTransport, type TransportOptions } from "../src/ai-sdk/index.js";
import { asked, eventually, scripted } from "./dev.js";

const { server, script, closes } = await scripted();

interface Page {
  readonly chat: Chat<UIMessage>;
  readonly transport: FabricChatTransport;
  close(): void;
}

/** A page with a chat on a session, as another device than every other page. */
function page(id: string, init: object = {}, options: TransportOptions = {}, connection: ConnectOptions = {}): Page {
  const client = connect({ url: server.url, token: server.token, ...connection });
  const transport = new FabricChatTransport(client, { pool: "script", ...options });
  const chat = new Chat<UIMessage>({ id, transport, ...init });
  const made = { chat, transport, close: () => (transport.close(), client.close()) };
  closes.push(made.close);
  return made;
}

const textOf = (message: UIMessage | undefined): string => (message?.parts ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");
const lastText = ({ chat }: Page): string => textOf(chat.messages.at(-1));
const shown = ({ chat }: Page): unknown[] => chat.messages.map((message) => [message.role, textOf(message).trim()]);
const partOf = ({ chat }: Page, type: string): Record<string, unknown> | undefined =>
  chat.messages.at(-1)?.parts.find((part) => part.type === type) as Record<string, unknown> | undefined;

test("the transport is one of both versions", () => {
  const transport = page(newId("s")).transport;
  const seven: ChatTransport<UIMessage> = transport;
  const six: ChatTransport6<UIMessage6> = transport;
  assert.ok(seven && six);
});

test("an answer streams into the chat, with what was thought and what tools found", async () => {
  const one = page(newId("s"));
  await one.chat.sendMessage({ text: 'think Hm.\nlook search {"q":1}\nsay one two' });
  assert.equal(one.chat.status, "ready");
  assert.equal(one.chat.error, undefined);
  assert.deepEqual(one.chat.messages.at(-1)?.parts.map((part) => part.type), ["reasoning", "tool-search", "text"]);
  assert.deepEqual(partOf(one, "tool-search")?.["output"], 'looked for {"q":1}');
  assert.equal(lastText(one), "one two ");
});

test("a page that is loaded in the middle of an answer has all of it, and no page has it twice", async () => {
  const session = newId("s");
  const first = page(session);
  void first.chat.sendMessage({ text: "say one two\nwait\nsay three" });
  await eventually(() => lastText(first) === "one two ");
  first.close(); // the page is gone
  const second = page(session);
  second.transport.mirror(second.chat);
  await eventually(() => lastText(second) === "one two ");
  assert.equal(second.chat.status, "streaming");
  script.release(session);
  await eventually(() => second.chat.status === "ready");
  assert.deepEqual(shown(second), [["user", "say one two\nwait\nsay three"], ["assistant", "one two three"]]);
});

test("reconnecting says null only when nothing goes on", async () => {
  const session = newId("s");
  const first = page(session);
  assert.equal(await first.transport.reconnectToStream({ chatId: session }), null);
  void first.chat.sendMessage({ text: "say one\nwait" });
  await eventually(() => lastText(first) === "one ");
  const second = page(session);
  const resumed = second.chat.resumeStream();
  await eventually(() => lastText(second) === "one ");
  await second.chat.stop();
  await resumed;
  script.release(session);
  await eventually(() => first.chat.status === "ready");
  assert.equal(await second.transport.reconnectToStream({ chatId: session }), null);
});

test("another page's question and answer appear in an idle chat as they happen, and the other way round", async () => {
  const session = newId("s");
  const [a, b] = [page(session), page(session)];
  for (const { transport, chat } of [a, b]) transport.mirror(chat);
  const asked = a.chat.sendMessage({ text: "say one\nwait\nsay two" });
  await eventually(() => b.chat.status === "streaming" && lastText(b) === "one ");
  script.release(session);
  await asked;
  await eventually(() => b.chat.status === "ready");
  await b.chat.sendMessage({ text: "say three" });
  await eventually(() => a.chat.messages.length === 4 && a.chat.status === "ready");
  const all = [["user", "say one\nwait\nsay two"], ["assistant", "one two"], ["user", "say three"], ["assistant", "three"]];
  assert.deepEqual([shown(a), shown(b)], [all, all]);
  assert.deepEqual(a.chat.messages.map(({ id }) => id), b.chat.messages.map(({ id }) => id));
});

test("stopping the chat leaves the run alive, and what it says later is shown when it is over", async () => {
  const session = newId("s");
  const one = page(session);
  one.transport.mirror(one.chat);
  void one.chat.sendMessage({ text: "say one\nwait\nsay two" });
  await eventually(() => lastText(one) === "one ");
  await one.chat.stop();
  assert.equal(one.chat.status, "ready");
  script.release(session);
  await eventually(() => lastText(one) === "one two ");
});

test("stopping the run says what became of it", async () => {
  const session = newId("s");
  const one = page(session);
  const sent = one.chat.sendMessage({ text: "say one\nwait\nsay two" });
  await eventually(() => lastText(one) === "one ");
  assert.equal((await one.transport.stop(session))?.outcome, "accepted");
  await sent;
  assert.deepEqual([one.chat.status, lastText(one)], ["ready", "one "]);
  assert.equal(await one.transport.stop(session), null);
});

for (const way of ["the transport's stop()", "the chat's stop(), where that interrupts"]) {
  test(`a message that nobody has taken is stopped for whoever comes: ${way}`, async () => {
    const session = newId("s");
    const one = page(session, {}, { pool: "nobody", onAbort: "interrupt" });
    void one.chat.sendMessage({ text: "hello" });
    await eventually(() => asked(server, session, "message.user"));
    const stopped = /transport/.test(way) ? one.transport.stop(session) : one.chat.stop();
    await eventually(() => asked(server, session, "control.requested"));
    const { deadline_ms, run } = (await asked(server, session, "control.requested"))!;
    assert.equal(deadline_ms, null);
    assert.equal(await script.order({ do: "deaf", session, run: String(run) }), "stopped");
    if (/transport/.test(way)) assert.equal(((await stopped) as { outcome: string }).outcome, "accepted");
  });
}

test("where abort means interrupt, stopping the chat stops the run for everybody", async () => {
  const session = newId("s");
  const [a, b] = [page(session, {}, { onAbort: "interrupt" }), page(session)];
  b.transport.mirror(b.chat);
  void a.chat.sendMessage({ text: "say one\nwait\nsay two" });
  await eventually(() => lastText(a) === "one " && lastText(b) === "one ");
  await a.chat.stop();
  await eventually(() => b.chat.status === "ready");
  assert.equal(lastText(b), "one ");
});

test("a tool of the page is run by one of two pages, and both show what came of it", async () => {
  const session = newId("s");
  const ran: string[] = [];
  const pages = ["a", "b"].map((name): Page => {
    const made: Page = page(session, {
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall }: { toolCall: { toolName: string; toolCallId: string } }) => {
        ran.push(name);
        void made.chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { lat: 48 } });
      },
    });
    made.transport.mirror(made.chat);
    return made;
  });
  void pages[0]!.chat.sendMessage({ text: "say Where\ntool locate {}" });
  await eventually(() => pages.every((one) => one.chat.status === "ready" && lastText(one).includes('It is {"lat": 48}')));
  assert.equal(ran.length, 1);
  assert.deepEqual(pages.map((one) => partOf(one, "tool-locate")?.["state"]), ["output-available", "output-available"]);
});

for (const approved of [true, false]) {
  test(`an approval is ${approved ? "granted" : "denied"} in the chat that shows it, and seen in the other one`, async () => {
    const session = newId("s");
    const pages = [0, 1].map(() => page(session, { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses }));
    for (const { transport, chat } of pages) transport.mirror(chat);
    const [a, b] = pages as [Page, Page];
    void a.chat.sendMessage({ text: "approve Delete 3 files?" });
    await eventually(() => pages.every((one) => one.chat.status === "ready" && partOf(one, "tool-approval")?.["state"] === "approval-requested"));
    assert.equal((partOf(b, "tool-approval")?.["input"] as { title: string }).title, "Delete 3 files?");
    const { id } = partOf(b, "tool-approval")?.["approval"] as { id: string };
    await b.chat.addToolApprovalResponse({ id, approved });
    await eventually(() => pages.every((one) => one.chat.status === "ready" && lastText(one).includes(approved ? "Granted" : "Denied")));
    assert.deepEqual(pages.map((one) => partOf(one, "tool-approval")?.["state"]), Array(2).fill(approved ? "output-available" : "output-denied"));
  });
}

test("what a run asks and a reloaded page shows is answered there", async () => {
  const session = newId("s");
  const first = page(session);
  void first.chat.sendMessage({ text: "choose red green" });
  await eventually(() => partOf(first, "tool-choice") !== undefined);
  first.close();
  const second = page(session, { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls });
  second.transport.mirror(second.chat);
  await eventually(() => second.chat.status === "ready" && partOf(second, "tool-choice")?.["state"] === "input-available");
  await second.chat.addToolOutput({ tool: "choice" as never, toolCallId: String(partOf(second, "tool-choice")?.["toolCallId"]), output: "green" as never });
  await eventually(() => lastText(second) === "So green.");
});

test("an answer is made anew, and a question asked in other words, in both pages", async () => {
  const session = newId("s");
  const [a, b] = [page(session), page(session)];
  for (const { transport, chat } of [a, b]) transport.mirror(chat);
  await a.chat.sendMessage({ text: "say one" });
  const before = a.chat.messages.at(-1)!.id;
  await a.chat.regenerate();
  await eventually(() => b.chat.status === "ready" && b.chat.messages.at(-1)?.id === a.chat.messages.at(-1)?.id);
  assert.notEqual(a.chat.messages.at(-1)!.id, before);
  await a.chat.sendMessage({ text: "say two", messageId: a.chat.messages[0]!.id });
  for (const one of [a, b]) await eventually(() => JSON.stringify(shown(one)) === JSON.stringify([["user", "say two"], ["assistant", "two"]]));
});

test("a run that fails says why, and the next message is answered", async () => {
  const one = page(newId("s"));
  one.transport.mirror(one.chat);
  await one.chat.sendMessage({ text: "say one\nfail The model is gone." });
  assert.equal(one.chat.error?.message, "The model is gone.");
  await one.chat.sendMessage({ text: "say two" });
  assert.equal(lastText(one), "two ");
});

test("files go into the log as AG-UI's parts, and come back as files", async () => {
  const session = newId("s");
  const [a, b] = [page(session), page(session)];
  b.transport.mirror(b.chat);
  const file = { type: "file" as const, mediaType: "image/png", url: "data:image/png;base64,iVBORw0KGgo=", filename: "dot.png" };
  await a.chat.sendMessage({ text: "say seen", files: [file] });
  await eventually(() => b.chat.messages.length === 2 && b.chat.status === "ready");
  assert.deepEqual(b.chat.messages[0]?.parts, [file, { type: "text", text: "say seen" }]);
});

test("a chat that is mirrored no more reads its answer to the end, lets its session go, and takes it up again", async () => {
  const session = newId("s");
  const { chat, transport } = page(session);
  const open = (): number => transport.client["subscriptions"].size;
  transport.mirror(chat)();
  const leave = transport.mirror(chat); // as StrictMode does
  void chat.sendMessage({ text: "say one\nwait\nsay two\napprove Sure?\nsay three" });
  await eventually(() => textOf(chat.messages.at(-1)) === "one ");
  leave();
  script.release(session);
  await eventually(() => chat.status === "ready");
  assert.equal(textOf(chat.messages.at(-1)), "one two ");
  assert.equal(open(), 1); // the run waits for an answer
  const approval = chat.messages.at(-1)!.parts.find((part) => part.type === "tool-approval") as { approval: { id: string } };
  await chat.addToolApprovalResponse({ id: approval.approval.id, approved: true });
  await chat.sendMessage();
  assert.equal(textOf(chat.messages.at(-1)), "one two Granted by user:you.three ");
  await eventually(() => open() === 0);
  const again = transport.mirror(chat);
  await chat.sendMessage({ text: "say four" });
  assert.deepEqual([chat.messages.length, textOf(chat.messages.at(-1)), open()], [4, "four ", 1]);
  again();
  await eventually(() => open() === 0);
});
