// @tanstack/ai-client's ChatClient with fetchServerSentEvents and webSocket, unmodified, against the gateway.

import { toolDefinition } from "@tanstack/ai/client";
import { ChatClient, fetchServerSentEvents, webSocket } from "@tanstack/ai-client";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { GATEWAY, answer, eventually, fresh, go, bearer, messagesOf, requestsOf, runsOf , proxy } from "./house.mjs";

const HALF = "Half 🙂 ";
const WHOLE = "Half 🙂 and half.";

// A WebSocket that brings a token, as a page's cookie does.
class Authorized extends WebSocket {
  constructor(url) {
    super(url, { headers: bearer() });
  }
}

const http = (session, { url = GATEWAY, query = "" } = {}) =>
  fetchServerSentEvents(`${url}/v1/tanstack/${session}${query}`, { headers: bearer(), reconnect: { delayMs: 20 } });
const socket = (session, { url = GATEWAY, query = "" } = {}) =>
  webSocket(`${url.replace("http", "ws")}/v1/tanstack/${session}${query}`, {
    WebSocketImpl: Authorized,
    reconnect: { delayMs: 20 },
  });
const ways = [
  ["fetchServerSentEvents", http],
  ["webSocket", socket],
];

function clientOf(session, connection, options = {}) {
  const chunks = [];
  const client = new ChatClient({
    threadId: session,
    connection,
    ...options,
    onChunk: (chunk) => {
      chunks.push(chunk);
      options.onChunk?.(chunk);
    },
  });
  client.attach();
  return Object.assign(client, { chunks });
}

const textOf = (message) =>
  message?.parts
    .filter((part) => part.type === "text")
    .map((part) => part.content)
    .join("");
const shown = (client) => client.getMessages().map((message) => [message.role, textOf(message)]);
const last = (client) => textOf(client.getMessages().at(-1));
const ready = (client) => eventually(() => !client.getIsLoading(), "the end");
const half = (client) => eventually(() => last(client) === HALF, "the first half");

describe.each(ways)("%s", (_, connect) => {
  test("streams a run, with tools and thoughts", async () => {
    const session = fresh("s");
    const client = clientOf(session, connect(session));
    await client.sendMessage("echo Hello");
    expect(shown(client)).toEqual([
      ["user", "echo Hello"],
      ["assistant", "Hello "],
    ]);
    expect(client.getStatus()).toBe("ready");
    await client.sendMessage("tool");
    const parts = client.getMessages().flatMap((message) => message.parts).slice(-4);
    expect(parts.map((part) => part.type)).toEqual(["text", "tool-call", "tool-result", "text"]);
    expect(parts[1]).toMatchObject({ name: "look", arguments: '{"where":"here"}', output: { found: 3 } });
    await client.sendMessage("think");
    expect(client.getMessages().at(-1).parts.map((part) => [part.type, part.content])).toEqual([
      ["thinking", "Let me think. Yes."],
      ["text", "Forty-two."],
    ]);
    expect((await messagesOf(session)).map((message) => message.id)).toEqual(client.getMessages().map(({ id }) => id));
  });

  test("takes back what a failed attempt has said", async () => {
    const session = fresh("s");
    const client = clientOf(session, connect(session));
    await client.sendMessage("retry");
    expect(shown(client)).toEqual([
      ["user", "retry"],
      ["assistant", "Right."],
    ]);
  });

  test("goes on where a connection was lost, and begins nothing anew", async () => {
    const session = fresh("s");
    const line = await proxy();
    const client = clientOf(session, connect(session, { url: line.url }));
    const going = client.sendMessage("hold");
    await half(client);
    line.cut();
    await go(session);
    await going;
    expect(shown(client)).toEqual([
      ["user", "hold"],
      ["assistant", WHOLE],
    ]);
    expect(await runsOf(session)).toHaveLength(1);
    expect(client.getError()).toBeUndefined();
    line.close();
  });

  test("goes on where a connection was lost behind an answer that it gave", async () => {
    const session = fresh("s");
    const line = await proxy();
    const client = clientOf(session, connect(session, { url: line.url }));
    await client.sendMessage("confirm");
    client.getInterrupts()[0].resolveInterrupt({ approved: true });
    await eventually(() => last(client) === "May I? Thanks ", "what follows the answer");
    line.cut();
    await go(session);
    await eventually(() => last(client) === "May I? Thanks a lot.", "the rest");
    await ready(client);
    expect(shown(client)).toHaveLength(2);
    expect(await runsOf(session)).toHaveLength(1);
    line.close();
  });

  test("joins a run from its beginning", async () => {
    const session = fresh("s");
    const client = clientOf(session, connect(session));
    const going = client.sendMessage("hold");
    await half(client);
    const { runId } = client.chunks.find((chunk) => chunk.type === "RUN_STARTED");
    const joined = [];
    const reading = (async () => {
      for await (const chunk of connect(session).joinRun(runId)) joined.push(chunk);
    })();
    await eventually(() => joined.some((chunk) => chunk.type === "TEXT_MESSAGE_CONTENT"), "what it said before");
    await go(session);
    await Promise.all([going, reading]);
    expect(joined.slice(0, 2).map((chunk) => chunk.type)).toEqual(["RUN_STARTED", "MESSAGES_SNAPSHOT"]);
    expect(joined.at(-1)).toMatchObject({ type: "RUN_FINISHED", runId });
    const text = joined.filter((chunk) => chunk.type === "TEXT_MESSAGE_CONTENT").map((chunk) => chunk.delta);
    expect(text.join("")).toBe(WHOLE);
  });

  test("refuses to join a run that is none", async () => {
    const session = fresh("s");
    await clientOf(session, connect(session)).sendMessage("echo Hello");
    const joining = (async () => {
      for await (const _ of connect(session).joinRun("no-such-run"));
    })();
    await expect(joining).rejects.toThrow();
  });

  test("says of what it cannot do why, as the failure of a run", async () => {
    const session = fresh("s");
    const other = clientOf(`${session}-other`, connect(session));
    await other.sendMessage("echo Hello").catch(() => {});
    await eventually(() => other.getError(), "the error");
    expect(other.getError()).toMatchObject({ code: "invalid_request" });
    expect(other.getError().message).toMatch(/not the session of this URL/);
    const failing = clientOf(session, connect(session));
    await failing.sendMessage("fail").catch(() => {});
    expect(failing.getError()).toMatchObject({ message: "The model is down.", code: "RunFailed" });
  });

  test("stop leaves the run alive, unless it is to interrupt it, and says nothing more of it", async () => {
    for (const [query, state] of [
      ["", "running"],
      ["?abort=interrupt", "cancelled"],
    ]) {
      const session = fresh("s");
      const client = clientOf(session, connect(session, { query }));
      const going = client.sendMessage("hold");
      await half(client);
      client.stop();
      await going;
      await eventually(async () => (await runsOf(session))[0].state === state, state);
      await go(session);
      await eventually(async () => (await runsOf(session))[0].state !== "running", "the end");
      expect(client.chunks.some((chunk) => chunk.type === "RUN_FINISHED")).toBe(false);
      await client.sendMessage("echo More");
      expect(last(client)).toBe("More ");
    }
  });

  test("calls the client's tools, and the run goes on with what they return", async () => {
    const session = fresh("s");
    let called = 0;
    const where = toolDefinition({
      name: "getLocation",
      description: "Where one is.",
      inputSchema: z.object({ precise: z.boolean() }),
      outputSchema: z.object({ city: z.string() }),
    }).client(async () => {
      called += 1;
      return { city: "Oslo" };
    });
    const client = clientOf(session, connect(session), { tools: [where] });
    await client.sendMessage("client");
    await eventually(() => last(client) === "Where are you? You are in Oslo.", "the rest");
    await ready(client);
    expect(called).toBe(1);
    expect(await runsOf(session)).toHaveLength(1);
    expect(client.getMessages().map((message) => message.role)).toEqual(["user", "assistant"]);
  });

  test("has approvals as interrupts", async () => {
    const session = fresh("s");
    const client = clientOf(session, connect(session));
    await client.sendMessage("approve");
    const [interrupt] = client.getInterrupts();
    expect(interrupt).toMatchObject({ kind: "generic", canResolve: true, message: "Refund? 20 euros" });
    interrupt.resolveInterrupt({ approved: true });
    await eventually(() => last(client) === "Refunded.", "the rest");
    await ready(client);
    expect(client.getInterrupts()).toHaveLength(0);
    expect(await runsOf(session)).toHaveLength(1);
    await client.sendMessage("choose");
    client.getInterrupts()[0].resolveInterrupt("M");
    await eventually(() => last(client) === "Size M.", "the rest");
  });

  test("goes on where somebody else has answered", async () => {
    const session = fresh("s");
    const client = clientOf(session, connect(session));
    await client.sendMessage("approve");
    const [request] = await requestsOf(session);
    await answer(session, request.request, { approved: false });
    client.getInterrupts()[0].resolveInterrupt({ approved: true });
    await eventually(() => last(client) === "Refused.", "the rest");
  });
});

describe("a page that is loaded again", () => {
  const loaded = (session, options) => clientOf(session, http(session), { persistence: true, ...options });

  test("has the conversation, and the answer that goes on", async () => {
    const session = fresh("s");
    const gone = clientOf(session, http(session));
    await gone.sendMessage("echo Before");
    const going = gone.sendMessage("hold");
    await half(gone);
    gone.detach();
    const back = loaded(session);
    await half(back);
    const other = loaded(session);
    await half(other);
    await go(session);
    for (const client of [back, other]) {
      await eventually(() => last(client) === WHOLE, "the rest");
      expect(shown(client).map(([, text]) => text)).toEqual(["echo Before", "Before ", "hold", WHOLE]);
      await ready(client);
      expect(client.getError()).toBeUndefined();
    }
    await going;
  });

  test("has an answer that began with thoughts", async () => {
    const session = fresh("s");
    const gone = clientOf(session, http(session));
    const going = gone.sendMessage("think slowly");
    await eventually(() => gone.getMessages().at(-1).role === "assistant", "the thoughts");
    const back = loaded(session);
    await eventually(() => back.getMessages().at(-1)?.parts[0]?.type === "thinking", "the thoughts");
    await go(session);
    await eventually(() => last(back) === "Forty-two.", "the rest");
    expect(back.getMessages().at(-1).parts.map((part) => part.type)).toEqual(["thinking", "text"]);
    expect(back.getMessages()).toHaveLength(2);
    await going;
  });

  test("has what is asked, and can answer it", async () => {
    const session = fresh("s");
    await clientOf(session, http(session)).sendMessage("approve");
    const back = loaded(session);
    await eventually(() => back.getInterrupts().length === 1, "the question");
    back.getInterrupts()[0].resolveInterrupt({ approved: true });
    await eventually(() => last(back) === "Refunded.", "the rest");
    expect(shown(back)).toEqual([
      ["user", "approve"],
      ["assistant", "Refunded."],
    ]);
  });

  test("loads older messages page by page", async () => {
    const session = fresh("s");
    const first = clientOf(session, http(session));
    for (const number of [1, 2, 3]) await first.sendMessage(`echo ${number}`);
    const back = loaded(session, { history: { pageSize: 2 } });
    await eventually(() => back.getMessages().length === 2, "the newest");
    while (back.getHasOlderMessages()) await back.loadOlderMessages();
    expect(shown(back).map(([, text]) => text)).toEqual(["echo 1", "1 ", "echo 2", "2 ", "echo 3", "3 "]);
    await back.sendMessage("echo 4");
    expect(last(back)).toBe("4 ");
    expect((await messagesOf(session)).map(({ content }) => content)).toEqual(shown(back).map(([, text]) => text));
  });

  test("that regenerates has another answer to the same message", async () => {
    const session = fresh("s");
    const client = clientOf(session, http(session));
    await client.sendMessage("echo One");
    await client.reload();
    expect(shown(client)).toEqual([
      ["user", "echo One"],
      ["assistant", "One "],
    ]);
    expect(await runsOf(session)).toHaveLength(2);
  });
});

describe("by hand", () => {
  test("the same body with Last-Event-ID is a resume", async () => {
    const session = fresh("s");
    const body = JSON.stringify({
      threadId: session,
      runId: "r-1",
      messages: [{ id: "m-1", role: "user", content: "echo Hello" }],
      state: {},
      tools: [],
      context: [],
      forwardedProps: {},
    });
    const post = (more = {}) =>
      fetch(`${GATEWAY}/v1/tanstack/${session}`, {
        method: "POST",
        headers: { ...bearer(), "Content-Type": "application/json", "X-Run-Id": "r-1", ...more },
        body,
      }).then((response) => response.text());
    const blocks = (text) => text.split("\n\n").filter((block) => block.startsWith("id: "));
    const data = (list) => list.map((block) => block.split("\n")[1]);
    const whole = blocks(await post());
    for (const [at, block] of whole.entries()) {
      const rest = blocks(await post({ "Last-Event-ID": block.split("\n")[0].slice(4) }));
      expect(data(rest)).toEqual(data(whole.slice(at + 1)));
    }
    expect(await runsOf(session)).toHaveLength(1);
  });

  test("a socket that joins what it may not is closed with 1008 and our code", async () => {
    const session = fresh("s");
    await clientOf(session, http(session)).sendMessage("echo Hello");
    for (const [query, code] of [
      ["?runId=none&offset=-1", "not_found"],
      ["?runId=none&offset=nonsense", "invalid_offset"],
    ]) {
      const closed = await new Promise((resolve) => {
        new Authorized(`${GATEWAY.replace("http", "ws")}/v1/tanstack/${session}${query}`).onclose = resolve;
      });
      expect([closed.code, closed.reason.split(":")[0]]).toEqual([1008, code]);
    }
  });
});
