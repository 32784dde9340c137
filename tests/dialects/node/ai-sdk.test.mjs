// The AI SDK's own clients against the gateway: `ai` 7.0.173 over HTTP and WebSocket, `ai` 6.0.325 over HTTP.
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import * as ai7 from "ai";
import * as ai6 from "ai6";
import { guide } from "./guide.mjs";
import { GATEWAY, api, bearer, eventually, fresh, go, proxy, ticket } from "./house.mjs";

const API = "/v1/ai-sdk/chat";

/** A chat's state without a framework around it. */
class State {
  status = "ready";
  error = undefined;
  constructor(messages = []) {
    this.messages = messages;
  }
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (at, message) => (this.messages = this.messages.with(at, structuredClone(message)));
  snapshot = (thing) => structuredClone(thing);
}

const KINDS = {
  "ai 7 over HTTP": {
    ai: ai7,
    transport: (base, who, query = "") =>
      new ai7.DefaultChatTransport({ api: `${base}${API}${query}`, headers: bearer(who) }),
  },
  "ai 7 over WebSocket": {
    ai: ai7,
    transport: (base, who, query = "") =>
      new ai7.WebSocketChatTransport({
        url: `${base}/v1/ai-sdk/ws${query}`,
        params: async () => ({ ticket: await ticket(who) }),
      }),
  },
  "ai 6 over HTTP": {
    ai: ai6,
    transport: (base, who, query = "") =>
      new ai6.DefaultChatTransport({
        api: `${base}${API}${query}`,
        headers: bearer(who),
        prepareReconnectToStreamRequest: ({ id }) => ({ api: `${base}${API}/${id}/stream?sdk=6` }),
        prepareSendMessagesRequest: ({ body, id, messages, trigger, messageId }) => ({
          api: `${base}${API}${query || "?sdk=6"}`,
          body: { ...body, id, messages, trigger, messageId },
        }),
      }),
  },
};

function chatOf(kind, id, { base = GATEWAY, who = "ada", query = "", messages = [], ...more } = {}) {
  const Chat = class extends kind.ai.AbstractChat {};
  const ended = [];
  const chat = new Chat({
    id,
    state: new State(messages),
    transport: kind.transport(base, who, query),
    onFinish: (end) => ended.push(end),
    ...more,
  });
  return Object.assign(chat, { ended });
}

const textOf = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
const said = (chat) => chat.messages.map((message) => `${message.role}: ${textOf(message)}`);
const toolOf = (chat) => chat.lastMessage.parts.find((part) => "toolCallId" in part);
const runOf = (id) => `run-${createHash("sha256").update(id).digest("hex").slice(0, 24)}`;
const stored = async (id, who) => (await api("GET", `/ai-sdk/chat/${id}/messages`, undefined, who)).body;
const half = (chat) => eventually(() => chat.lastMessage?.role === "assistant" && textOf(chat.lastMessage) === "Half 🙂 ");

describe.each(Object.entries(KINDS))("%s", (name, kind) => {
  const overHttp = !name.includes("WebSocket");

  test("streams an answer, word by word, and says how it ended", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ text: "echo one two three" });
    expect(chat.error).toBeUndefined();
    expect(said(chat)).toEqual(["user: echo one two three", "assistant: one two three "]);
    expect(chat.status).toBe("ready");
    expect(chat.lastMessage.id).toBe(runOf(chat.messages[0].id));
    const { run, offset, outcome } = chat.lastMessage.metadata.sessionFabric;
    expect({ run, outcome }).toEqual({ run: chat.lastMessage.id, outcome: "success" });
    expect(offset).toMatch(/^\d{16}_\d{16}$/);
    expect(chat.ended.at(-1).finishReason).toBe("stop");
  });

  test("goes on in a conversation, and what it has is what another device loads", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ text: "echo one" });
    await chat.sendMessage({ text: "tool" });
    const loaded = await stored(chat.id);
    expect(loaded.messages.map((message) => [message.id, message.role, textOf(message)])).toEqual(
      chat.messages.map((message) => [message.id, message.role, textOf(message)]),
    );
    expect(loaded.messages.at(-1).metadata).toEqual(chat.lastMessage.metadata);
  });

  test("a page that is loaded again in mid-answer has all of it, once", async () => {
    const before = chatOf(kind, fresh());
    const sending = before.sendMessage({ text: "hold" });
    await half(before);
    const { messages } = await stored(before.id);
    const after = chatOf(kind, before.id, { messages });
    const resuming = after.resumeStream();
    await half(after);
    await go(before.id);
    await Promise.all([sending, resuming]);
    for (const chat of [before, after]) expect(said(chat)).toEqual(["user: hold", "assistant: Half 🙂 and half."]);
    expect(after.lastMessage.id).toBe(before.lastMessage.id);
  });

  test("a page that has stored nothing resumes just as well", async () => {
    const before = chatOf(kind, fresh());
    const sending = before.sendMessage({ text: "hold" });
    await half(before);
    const after = chatOf(kind, before.id);
    const resuming = after.resumeStream();
    await half(after);
    await go(before.id);
    await Promise.all([sending, resuming]);
    expect(said(after)).toEqual(["assistant: Half 🙂 and half."]);
  });

  test("with nothing under way there is nothing to resume", async () => {
    const chat = chatOf(kind, fresh());
    await chat.resumeStream();
    expect(chat.status).toBe("ready");
    await chat.sendMessage({ text: "echo done" });
    await chat.resumeStream();
    expect(said(chat)).toEqual(["user: echo done", "assistant: done "]);
    if (!overHttp) return;
    const { offset } = await stored(chat.id);
    const none = await fetch(`${GATEWAY}${API}/${chat.id}/stream?after=${offset}`, { headers: bearer() });
    expect(none.status).toBe(204);
  });

  test("what has ended since a page looked is told too", async () => {
    const chat = chatOf(kind, fresh());
    const sending = chat.sendMessage({ text: "hold" });
    await half(chat);
    const { messages } = await stored(chat.id);
    await go(chat.id);
    await sending;
    const after = chatOf(kind, chat.id, { messages });
    await after.resumeStream();
    expect(said(after)).toEqual(["user: hold", "assistant: Half 🙂 and half."]);
  });

  test("a connection that is cut is told as a disconnect, and resumed without a gap", async () => {
    const cutter = await proxy();
    const chat = chatOf(kind, fresh(), { base: cutter.url });
    const sending = chat.sendMessage({ text: "hold" });
    await half(chat);
    cutter.cut();
    await sending;
    expect(chat.status).toBe("error");
    // Defect of ai 7.0.173 and 6.0.325 under Node: undici says "terminated", which they do not take for a disconnect;
    // in browsers it says "network error", which they do.
    expect(chat.ended.at(-1).isDisconnect).toBe(!overHttp);
    const resuming = chat.resumeStream();
    await eventually(() => chat.status === "streaming");
    await go(chat.id);
    await resuming;
    expect(said(chat)).toEqual(["user: hold", "assistant: Half 🙂 and half."]);
    await cutter.close();
  });

  test("another participant's device sees the run that it did not begin", async () => {
    const ada = chatOf(kind, fresh());
    const sending = ada.sendMessage({ text: "hold" });
    await half(ada);
    const bob = chatOf(kind, ada.id, { who: "bob", messages: (await stored(ada.id, "bob")).messages });
    const watching = bob.resumeStream();
    await half(bob);
    await go(ada.id);
    await Promise.all([sending, watching]);
    expect(said(bob)).toEqual(["user: hold", "assistant: Half 🙂 and half."]);
  });

  test("to stop listening leaves the run alive; to stop the run ends it for everybody", async () => {
    const chat = chatOf(kind, fresh());
    const sending = chat.sendMessage({ text: "hold" });
    await half(chat);
    await chat.stop();
    await sending;
    const watcher = chatOf(kind, chat.id);
    const watching = watcher.resumeStream();
    await half(watcher);
    const stopped = await api("POST", `/ai-sdk/chat/${chat.id}/stop`);
    expect(stopped.status).toBe(201);
    await watching;
    expect(said(watcher)).toEqual(["assistant: Half 🙂 "]);
    expect(watcher.lastMessage.metadata.sessionFabric.outcome).toBe("cancelled");
    expect((await api("POST", `/ai-sdk/chat/${chat.id}/stop`)).status).toBe(204);
  });

  test("a page may have its abort interrupt the run", async () => {
    const chat = chatOf(kind, fresh(), { query: "?abort=interrupt" });
    const sending = chat.sendMessage({ text: "hold" });
    await half(chat);
    await chat.stop();
    await sending;
    await eventually(async () => (await stored(chat.id)).messages.at(-1).metadata.sessionFabric.outcome === "cancelled");
  });

  test("what the agent thinks, and what its tools do, are parts of their own", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ text: "think" });
    const reasoning = chat.lastMessage.parts.find((part) => part.type === "reasoning");
    expect(reasoning).toMatchObject({ text: "Let me think. Yes.", state: "done" });
    expect(textOf(chat.lastMessage)).toBe("Forty-two.");
    await chat.sendMessage({ text: "tool" });
    expect(toolOf(chat)).toMatchObject({
      type: "tool-look",
      state: "output-available",
      input: { where: "here" },
      output: { found: 3 },
      providerExecuted: true,
    });
    expect(chat.lastMessage.parts.map((part) => part.type)).toEqual([
      ...["step-start", "text", "tool-look", "step-start", "text"],
    ]);
  });

  test("events of an agent's own are data parts", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ text: "custom" });
    expect(chat.lastMessage.parts.find((part) => part.type === "data-progress").data).toEqual({ done: 1 });
  });

  test("a tool of the page's is called, and what it gives goes to the run", async () => {
    const calls = [];
    const chat = chatOf(kind, fresh(), {
      sendAutomaticallyWhen: kind.ai.lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall }) => {
        calls.push(toolCall.toolName);
        chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { city: "Graz" } });
      },
    });
    await chat.sendMessage({ text: "client" });
    await eventually(() => chat.status === "ready" && textOf(chat.lastMessage).endsWith("Graz."), "the answer");
    expect(calls).toEqual(["getLocation"]);
    expect(said(chat)).toEqual(["user: client", "assistant: Where are you? You are in Graz."]);
    expect(toolOf(chat)).toMatchObject({ state: "output-available", output: { city: "Graz" } });
    const loaded = (await stored(chat.id)).messages;
    expect(loaded.map(textOf)).toEqual(chat.messages.map(textOf));
    expect(loaded.filter((message) => message.role === "assistant")).toHaveLength(1);
  });

  test("a tool behind which the agent says nothing more is answered once", async () => {
    const { lastAssistantMessageIsCompleteWithToolCalls } = kind.ai;
    const chat = chatOf(kind, fresh(), {
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall: { toolName, toolCallId } }) => {
        chat.addToolOutput({ tool: toolName, toolCallId, output: { city: "Graz" } });
      },
    });
    await chat.sendMessage({ text: "quiet" });
    await eventually(() => chat.status === "ready" && chat.ended.length === 2, "the end");
    // Else the page would send the same answer for ever: neither as it has it now, nor as it loads or resumes it.
    expect(toolOf(chat).state).toBe("output-available");
    expect(lastAssistantMessageIsCompleteWithToolCalls(chat)).toBe(false);
    const { messages } = await stored(chat.id);
    expect(lastAssistantMessageIsCompleteWithToolCalls({ messages })).toBe(false);
    const again = chatOf(kind, chat.id, { messages });
    await again.resumeStream();
    expect(lastAssistantMessageIsCompleteWithToolCalls(again)).toBe(false);
  });

  test("an answer that the page has kept goes with what is said next", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ text: "client" });
    const { toolCallId } = toolOf(chat);
    await chat.addToolOutput({ tool: "getLocation", toolCallId, output: { city: "Linz" } });
    await chat.sendMessage({ text: "echo next" });
    expect(chat.error).toBeUndefined();
    expect((await stored(chat.id)).messages.map(textOf)).toEqual([
      ...["client", "Where are you? You are in Linz.", "echo next", "next "],
    ]);
  });

  test("two tools of the page's at once are both answered", async () => {
    const chat = chatOf(kind, fresh(), {
      sendAutomaticallyWhen: kind.ai.lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall: { toolName: tool, toolCallId } }) =>
        void chat.addToolOutput({ tool, toolCallId, output: tool.toUpperCase() }),
    });
    await chat.sendMessage({ text: "both" });
    await eventually(() => chat.status === "ready" && textOf(chat.lastMessage) === "FIRST and SECOND", "both");
  });

  test.each([true, false])("an approval is asked for and given (%s), on a page that was loaded again", async (approved) => {
    const asking = chatOf(kind, fresh());
    await asking.sendMessage({ text: "approve" });
    expect(asking.ended.at(-1).finishReason).toBe("tool-calls");
    const { messages } = await stored(asking.id);
    const chat = chatOf(kind, asking.id, {
      messages,
      sendAutomaticallyWhen: kind.ai.lastAssistantMessageIsCompleteWithApprovalResponses,
    });
    const part = toolOf(chat);
    expect(part).toMatchObject({ type: "tool-approval", state: "approval-requested", input: { title: "Refund?" } });
    await chat.addToolApprovalResponse({ id: part.approval.id, approved, reason: "he asked" });
    const answer = approved ? "Refunded, since he asked." : "Refused, since he asked.";
    await eventually(() => chat.status === "ready" && textOf(chat.lastMessage) === answer, answer);
    expect(toolOf(chat).state).toBe(approved ? "output-available" : "output-denied");
    expect(chat.messages).toHaveLength(2);
  });

  test("a page that is loaded again behind an answer has what followed it", async () => {
    const asking = chatOf(kind, fresh());
    await asking.sendMessage({ text: "approve" });
    const [request] = (await api("GET", `/sessions/${asking.id}/requests`)).body.requests;
    await api("POST", `/sessions/${asking.id}/requests/${request.request}/answer`, { body: { approved: true } });
    await eventually(async () => textOf((await stored(asking.id)).messages.at(-1)) === "Refunded.");
    const { messages } = await stored(asking.id);
    const loaded = chatOf(kind, asking.id, { messages });
    await loaded.resumeStream();
    expect(said(loaded)).toEqual(["user: approve", "assistant: Refunded."]);
    expect(toolOf(loaded).state).toBe("output-available");
  });

  test("a choice is answered as a tool is", async () => {
    const chat = chatOf(kind, fresh(), { sendAutomaticallyWhen: kind.ai.lastAssistantMessageIsCompleteWithToolCalls });
    await chat.sendMessage({ text: "choose" });
    const part = toolOf(chat);
    expect(part).toMatchObject({ type: "tool-choice", state: "input-available", input: { options: ["S", "M"] } });
    await chat.addToolOutput({ tool: "choice", toolCallId: part.toolCallId, output: "M" });
    await eventually(() => chat.status === "ready" && textOf(chat.lastMessage) === "Size M.");
  });

  test("regenerate has a message answered again, in place of the answer", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ text: "echo once" });
    const first = chat.lastMessage.id;
    await chat.regenerate();
    expect(chat.error).toBeUndefined();
    expect(said(chat)).toEqual(["user: echo once", "assistant: once "]);
    const second = chat.lastMessage.id;
    expect(second).not.toBe(first);
    await chat.regenerate({ messageId: second });
    expect(new Set([first, second, chat.lastMessage.id]).size).toBe(3);
    expect((await stored(chat.id)).messages.map((message) => message.id)).toEqual(chat.messages.map(({ id }) => id));
  });

  test("an edit replaces the message and what followed", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ text: "echo wrong" });
    await chat.sendMessage({ text: "echo later" });
    await chat.sendMessage({ text: "echo right", messageId: chat.messages[0].id });
    expect(chat.error).toBeUndefined();
    expect(said(chat)).toEqual(["user: echo right", "assistant: right "]);
    expect((await stored(chat.id)).messages.map((message) => textOf(message))).toEqual(["echo right", "right "]);
  });

  test("an attempt that failed is taken back, where the client knows how", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ text: "retry" });
    // ai 6 has no `reset-step`: what the failed attempt said stays in its view until it is loaded again.
    expect(textOf(chat.lastMessage)).toBe(kind.ai === ai6 ? "Wrong.Right." : "Right.");
    expect(textOf((await stored(chat.id)).messages.at(-1))).toBe("Right.");
  });

  test("a run that fails is an error with our code in it", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ text: "fail" });
    expect(chat.status).toBe("error");
    expect(chat.error.message).toBe("RunFailed: The model is down.");
  });

  test("what is not granted, and what is no name, is told in the framework's form with our code", async () => {
    const reader = chatOf(kind, fresh(), { who: "reader" });
    await reader.sendMessage({ text: "echo no" });
    expect(reader.error.message).toMatch(/forbidden/);
    const unnamed = chatOf(kind, "no name");
    await unnamed.sendMessage({ text: "echo no" });
    expect(unnamed.error.message).toMatch(/invalid_name/);
  });

  test("a message id that is somebody else's, or another body's, is refused", async () => {
    const chat = chatOf(kind, fresh());
    await chat.sendMessage({ id: "m-1", role: "user", parts: [{ type: "text", text: "echo mine" }] });
    const other = chatOf(kind, chat.id);
    await other.sendMessage({ id: "m-1", role: "user", parts: [{ type: "text", text: "echo other" }] });
    expect(other.error.message).toMatch(/id_conflict/);
    const bob = chatOf(kind, chat.id, { who: "bob" });
    await bob.sendMessage({ id: "m-1", role: "user", parts: [{ type: "text", text: "echo mine" }] });
    expect(bob.error.message).toMatch(/id_conflict/);
  });

  test("a POST that is repeated follows the same run", async () => {
    const id = fresh();
    const message = { id: "m-1", role: "user", parts: [{ type: "text", text: "hold" }] };
    const chats = [chatOf(kind, id), chatOf(kind, id)];
    const sending = chats.map((chat) => chat.sendMessage(structuredClone(message)));
    await Promise.all(chats.map(half));
    await go(id);
    await Promise.all(sending);
    for (const chat of chats) expect(said(chat)).toEqual(["user: hold", "assistant: Half 🙂 and half."]);
    const later = chatOf(kind, id);
    await later.sendMessage(structuredClone(message));
    expect(said(later)).toEqual(["user: hold", "assistant: Half 🙂 and half."]);
    expect((await api("GET", `/sessions/${id}/runs`)).body.runs).toHaveLength(1);
  });

  test("what is said meanwhile is queued, and answered in its turn", async () => {
    const chat = chatOf(kind, fresh());
    const first = chat.sendMessage({ text: "hold" });
    await half(chat);
    const other = chatOf(kind, chat.id);
    const second = other.sendMessage({ text: "echo two" });
    await eventually(async () => (await stored(chat.id)).messages.length === 3);
    expect(other.status).toBe("submitted");
    await go(chat.id);
    await Promise.all([first, second]);
    expect(said(other)).toEqual(["user: echo two", "assistant: two "]);
  });

  test("where the policy rejects what comes meanwhile, that is an error", async () => {
    const chat = chatOf(kind, fresh());
    const first = chat.sendMessage({ text: "hold" });
    await half(chat);
    await policy(chat.id, "reject");
    const other = chatOf(kind, chat.id);
    await other.sendMessage({ text: "echo two" });
    expect(other.error.message).toMatch(/^busy: /);
    await other.regenerate();
    expect(other.error.message).toMatch(/^busy: /);
    await go(chat.id);
    await first;
    await other.regenerate();
    expect(said(other)).toEqual(["user: echo two", "assistant: two "]);
  });

  test("where the policy steers, the rest of the run is the answer", async () => {
    const chat = chatOf(kind, fresh());
    const first = chat.sendMessage({ text: "steered" });
    await eventually(() => chat.lastMessage?.role === "assistant" && textOf(chat.lastMessage) === "First. ");
    await policy(chat.id, "steer");
    const other = chatOf(kind, chat.id);
    await other.sendMessage({ text: "shorter" });
    await first;
    for (const one of [chat, other]) expect(textOf(one.lastMessage)).toBe("First. Then shorter.");
    expect(other.lastMessage.id).toBe(chat.lastMessage.id);
  });
});

test("what the guide shows works as it is shown", async () => {
  const { load, transport, socket, stop } = await guide("ai-sdk.md");
  const id = fresh();
  expect(await load(id)).toEqual([]);
  for (const way of [transport, socket]) {
    const chat = chatOf({ transport: () => way(), ai: ai7 }, id, { messages: await load(id) });
    const before = chat.messages.length;
    const sending = chat.sendMessage({ text: "hold" });
    await eventually(() => chat.messages.length === before + 2 && textOf(chat.lastMessage) === "Half 🙂 ");
    expect((await stop(id)).status).toBe(201);
    await sending;
    expect((await load(id)).map(textOf)).toEqual(chat.messages.map(textOf));
  }
});

/** Sets what becomes of messages that come while an agent works; users may not. */
async function policy(session, whenBusy) {
  const answer = await fetch(`${GATEWAY}/v1/sessions/${session}/policy`, {
    method: "PUT",
    headers: { "content-type": "application/json", Authorization: `Bearer ${process.env.TOKEN_OPERATOR}` },
    body: JSON.stringify({ policy: { when_busy: whenBusy } }),
  });
  expect(answer.status).toBe(200);
}
