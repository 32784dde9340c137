// The official clients and transports of Durable Streams, unmodified, against our gateway.
import { expect, test } from "vitest";
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client";
import { createDurableChatTransport, toDurableStreamResponse } from "@durable-streams/aisdk-transport";
import { durableStreamConnection, toDurableChatSessionResponse } from "@durable-streams/tanstack-ai-transport";
import { createUIMessageStream, readUIMessageStream } from "ai";

const base = `${process.env.STREAMS_URL}/v1/stream/clients`;
const WORDS = ["Durable ", "streams ", "over ", "a ", "log."];

const named = (name) => `${base}/${name}-${crypto.randomUUID()}`;

async function* slowly(values) {
  for (const value of values) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    yield value;
  }
}

test("the TypeScript client appends, reads what is stored, and follows by long poll and by server-sent events", async () => {
  const url = named("plain");
  const handle = await DurableStream.create({ url, contentType: "application/json" });
  await handle.append(JSON.stringify({ n: 0 }));
  expect(await (await stream({ url, live: false })).json()).toEqual([{ n: 0 }]);
  for (const live of ["long-poll", "sse"]) {
    const seen = [];
    const abort = new AbortController();
    const response = await stream({ url, live, offset: "-1", signal: abort.signal });
    const done = new Promise((resolve) => {
      response.subscribeJson((batch) => {
        seen.push(...batch.items);
        if (seen.some((item) => item.live === live)) resolve();
      });
    });
    await handle.append(JSON.stringify({ live }));
    await done;
    abort.abort();
    expect(seen.filter((item) => item.n === 0)).toHaveLength(1);
    expect(seen.filter((item) => item.live === live)).toHaveLength(1);
  }
});

test("what its idempotent producer sends is stored once and in order, and a second producer fences the first", async () => {
  const url = named("producer");
  const handle = await DurableStream.create({ url, contentType: "application/json" });
  const producer = new IdempotentProducer(handle, "writer", { autoClaim: true, lingerMs: 1 });
  for (let n = 0; n < 200; n += 1) producer.append(JSON.stringify({ n }));
  await producer.flush();
  const next = new IdempotentProducer(handle, "writer", { epoch: 1 });
  next.append(JSON.stringify({ n: 200 }));
  await next.flush();
  const items = await (await stream({ url, live: false })).json();
  expect(items.map((item) => item.n)).toEqual([...Array(201).keys()]);
  await producer.detach?.();
  await next.detach?.();
});

test("the transport for the AI SDK writes an answer to a stream and reads it back, again after a reload", async () => {
  const url = named("aisdk");
  const source = createUIMessageStream({
    execute: async ({ writer }) => {
      writer.write({ type: "text-start", id: "t1" });
      for await (const delta of slowly(WORDS)) writer.write({ type: "text-delta", id: "t1", delta });
      writer.write({ type: "text-end", id: "t1" });
    },
  });
  const answered = toDurableStreamResponse({ source, stream: { writeUrl: url, readUrl: url } });
  const fetchClient = async (asked, init = {}) => {
    const target = String(asked instanceof Request ? asked.url : asked);
    if (target.endsWith("/api/chat")) return answered;
    if (target.includes("/api/chat/")) return Response.json({ streamUrl: url }, { headers: { Location: url } });
    return fetch(asked, init);
  };
  const transport = createDurableChatTransport({ api: "http://app.example/api/chat", fetchClient });
  const asked = { chatId: "c1", messages: [], trigger: "submit-message", messageId: undefined, abortSignal: undefined };
  const text = async (chunks) => {
    let last;
    for await (const message of readUIMessageStream({ stream: chunks })) last = message;
    return last.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
  };
  expect(await text(await transport.sendMessages(asked))).toBe(WORDS.join(""));
  expect(await text(await transport.reconnectToStream({ chatId: "c1" }))).toBe(WORDS.join(""));
});

test("the connection for TanStack AI has what was asked and answered, and what comes while it is subscribed", async () => {
  const url = named("tanstack");
  const answer = WORDS.map((delta) => ({ type: "TEXT_MESSAGE_CONTENT", messageId: "a1", delta }));
  const chunks = [{ type: "TEXT_MESSAGE_START", messageId: "a1", role: "assistant" }, ...answer, { type: "TEXT_MESSAGE_END", messageId: "a1" }];
  const question = { id: "q1", role: "user", parts: [{ type: "text", content: "What is it?" }] };
  const responded = await toDurableChatSessionResponse({
    stream: { writeUrl: url, createIfMissing: true },
    newMessages: [question],
    responseStream: slowly(chunks),
    mode: "immediate",
  });
  expect(responded.ok).toBe(true);
  const connection = durableStreamConnection({ sendUrl: url, readUrl: url, emitSnapshotOnSubscribe: false });
  const abort = new AbortController();
  let said = "";
  for await (const chunk of connection.subscribe(abort.signal)) {
    if (chunk.type === "TEXT_MESSAGE_CONTENT" && chunk.messageId === "a1") said += chunk.delta;
    if (said === WORDS.join("")) break;
  }
  abort.abort();
  expect(said).toBe(WORDS.join(""));
});
