// Against a real gateway, broker and agent.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Client, type ConnectOptions, connect, type FabricEvent, httpTransports, newId, webSocketTransport } from "../src/index.js";
import { presence } from "../src/life/index.js";
import { eventually, served } from "./dev.js";

const { server, closes } = await served();

function device(options: ConnectOptions = {}): Client {
  const client = connect({ url: server.url, token: server.token, ...options });
  closes.push(() => client.close());
  return client;
}

const note = (n: number) => ({ type: "app.note", n });
const numbers = (events: readonly FabricEvent[]) => events.filter(({ type }) => type === "app.note").map(({ body }) => body["n"]);

const ways = { websocket: [webSocketTransport()], sse: [httpTransports()[0]!], "long-poll": [httpTransports()[1]!] };

for (const [name, transports] of Object.entries(ways)) {
  test(`by ${name}: what one device appends another one follows, in order, from any offset`, async () => {
    const session = newId("s");
    const writer = device({ transports }).session(session);
    const live: FabricEvent[] = [];
    device({ transports }).session(session).open({ events: (events) => live.push(...events) });
    const appended = await Promise.all(Array.from({ length: 20 }, (_, n) => writer.append(note(n))));
    await eventually(() => numbers(live).length === 20);
    assert.deepEqual(numbers(live), Array.from({ length: 20 }, (_, n) => n));
    const late: FabricEvent[] = [];
    for await (const event of device({ transports }).session(session).follow({ after: appended[9]!.offset })) {
      if (late.push(event) === 10) break;
    }
    assert.deepEqual(numbers(late), Array.from({ length: 10 }, (_, n) => n + 10));
  });

  test(`by ${name}: an id sent twice is one event, with another body a conflict`, async () => {
    const session = device({ transports }).session(newId("s"));
    const first = await session.append(note(1), { id: "e1" });
    const second = await session.append(note(1), { id: "e1" });
    assert.deepEqual([second.offset, first.duplicate, second.duplicate], [first.offset, false, true]);
    await assert.rejects(session.append(note(2), { id: "e1" }), (error: { code: string }) => error.code === "id_conflict");
  });

  test(`by ${name}: a question is answered by the agent, the same in every client`, async () => {
    const session = newId("s");
    const mine = device({ transports }).session(session).conversation();
    const other = device({ transports }).session(session).conversation();
    await mine.send("What does close code 4408 mean?");
    const answered = () => [mine, other].every((chat) => chat.messages.at(-1)?.role === "assistant" && chat.messages.at(-1)?.status === "completed");
    await eventually(answered, 30_000);
    assert.deepEqual(mine.messages.map(({ content }) => content), other.messages.map(({ content }) => content));
    assert.equal(mine.messages.at(-1)?.toolCalls[0]?.name, "search_docs");
    await eventually(() => mine.activeRuns.length === 0);
  });
}

for (const [name, transports] of Object.entries(ways)) {
  test(`by ${name}: what is redacted is shown as that, by who has followed and by who comes after`, async () => {
    const session = newId("s");
    const chat = device({ transports }).session(session).conversation();
    const id = newId("m");
    await chat.session.append({ type: "message.user", pool: "nobody", message: { id, role: "user", content: "Mine is 4111-1111." } });
    await eventually(() => chat.messages.at(-1)?.content === "Mine is 4111-1111.");
    const headers = { Authorization: `Bearer ${server.tokenFor("operator:eve", { "*": ["redact"] })}` };
    const body = JSON.stringify({ message: id, reason: "A card number." });
    const answer = await fetch(`${server.url}/v1/sessions/${session}/redactions`, { method: "POST", headers, body });
    assert.equal(answer.status, 201);
    await eventually(() => chat.messages.at(-1)?.redacted === true);
    const late = device({ transports }).session(session).conversation();
    await eventually(() => late.messages.length === 1);
    for (const { messages } of [chat, late]) assert.deepEqual([messages[0]?.content, messages[0]?.role, messages[0]?.redacted], ["", "user", true]);
  });
}

test("a token that is wrong is not tried for ever", async () => {
  const client = device({ token: "nonsense" });
  await eventually(() => client.status.phase === "closed");
  assert.equal(client.status.error?.code, "unauthenticated");
});

test("a gateway that is killed costs nothing", async () => {
  const session = newId("s");
  const client = device();
  const seen: FabricEvent[] = [];
  client.session(session).open({ events: (events) => seen.push(...events) });
  const writer = device().session(session);
  const appends: Promise<unknown>[] = [];
  for (let n = 0; n < 50; n += 1) {
    appends.push(writer.append(note(n)));
    if (n === 10) await Promise.race(appends);
    if (n === 25) process.kill(server.gateway_pid, "SIGKILL"); // fabricctl starts it again
  }
  await Promise.all(appends);
  await eventually(() => numbers(seen).length >= 50);
  assert.deepEqual(numbers(seen), Array.from({ length: 50 }, (_, n) => n));
});

test("who has the session open is known, and who is typing", async () => {
  const session = newId("s");
  const ada = device().session(session).conversation({ presence: { name: "Ada" } });
  const bob = device().session(session);
  const signals: unknown[] = [];
  bob.on("signal", ({ body }) => signals.push(body));
  bob.open({ events: () => undefined }, { presence: {} });
  await eventually(() => ada.stage === "live");
  await eventually(async () => (await presence(bob).who()).length === 2);
  await eventually(() => (ada.session.signal({ type: "typing" }), signals.length > 0));
});
