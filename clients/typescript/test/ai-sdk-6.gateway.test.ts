/** Version 6 of the AI SDK over our transport: its own chat, with the smallest state that one can have. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AbstractChat, type ChatInit, type ChatState, type ChatStatus, lastAssistantMessageIsCompleteWithApprovalResponses, type UIMessage } from "ai6";
import { connect, newId } from "../src/index.js";
import { FabricChatTransport } from "../src/ai-sdk/index.js";
import { eventually, scripted } from "./dev.js";

const { server, script, closes } = await scripted();

class State implements ChatState<UIMessage> {
  status: ChatStatus = "ready";
  error: Error | undefined;
  messages: UIMessage[] = [];
  pushMessage = (message: UIMessage): void => void (this.messages = [...this.messages, message]);
  popMessage = (): void => void (this.messages = this.messages.slice(0, -1));
  replaceMessage = (at: number, message: UIMessage): void => void (this.messages = this.messages.with(at, message));
  snapshot = <T>(thing: T): T => structuredClone(thing);
}

class Chat6 extends AbstractChat<UIMessage> {
  constructor(init: ChatInit<UIMessage>) {
    super({ ...init, state: new State() });
  }
}

function page(id: string, init: Partial<ChatInit<UIMessage>> = {}): { chat: Chat6; transport: FabricChatTransport; close(): void } {
  const client = connect({ url: server.url, token: server.token });
  const transport = new FabricChatTransport(client, { pool: "script" });
  const close = (): void => (transport.close(), client.close());
  closes.push(close);
  return { chat: new Chat6({ id, transport, ...init }), transport, close };
}

const textOf = (message: UIMessage | undefined): string => (message?.parts ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");

test("an answer streams into a chat of version 6, with what was thought and what tools found", async () => {
  const { chat } = page(newId("s"));
  await chat.sendMessage({ text: 'think Hm.\nlook search {"q":1}\nsay one two' });
  assert.equal(chat.error, undefined);
  assert.deepEqual(chat.lastMessage?.parts.map((part) => part.type), ["reasoning", "tool-search", "text"]);
  assert.equal(textOf(chat.lastMessage), "one two ");
});

test("a page of version 6 that is loaded in the middle of an answer has all of it, once", async () => {
  const session = newId("s");
  const first = page(session);
  void first.chat.sendMessage({ text: "say one two\nwait\nsay three" });
  await eventually(() => textOf(first.chat.lastMessage) === "one two ");
  first.close();
  const second = page(session);
  second.transport.mirror(second.chat);
  await eventually(() => textOf(second.chat.lastMessage) === "one two ");
  script.release(session);
  await eventually(() => second.chat.status === "ready" && second.chat.messages.length === 2);
  assert.equal(textOf(second.chat.lastMessage).trim(), "one two three");
});

test("a chat of version 6 stops the run, and approves what is asked", async () => {
  const session = newId("s");
  const { chat, transport } = page(session, { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses });
  const stopped = chat.sendMessage({ text: "say one\nwait" });
  await eventually(() => textOf(chat.lastMessage) === "one ");
  assert.deepEqual((await transport.stop(session))?.outcome, "accepted");
  await stopped;
  void chat.sendMessage({ text: "approve Sure?" });
  const asked = (): { approval: { id: string } } | undefined =>
    chat.lastMessage?.parts.find((part) => "state" in part && part.state === "approval-requested") as never;
  await eventually(asked);
  await chat.addToolApprovalResponse({ id: asked()!.approval.id, approved: true });
  await eventually(() => chat.status === "ready" && textOf(chat.lastMessage).includes("Granted"));
});
