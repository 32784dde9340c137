// What networks do to connections, against a real gateway behind proxies: the same events, and nobody has to do anything.
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { connect as dial, createServer as listen, type Server as TcpServer, type Socket } from "node:net";
import { test } from "node:test";
import { type Client, connect, type FabricEvent, httpTransports, newId, webSocketTransport } from "../src/index.js";
import type { Clock } from "../src/clock.js";
import { eventually, served } from "./dev.js";

const { server, closes } = await served();

/** A clock on which the waits for a welcome, and for another try of a better transport (`stayMs`), are over soon. */
const hurried = (stayMs: number): Clock => ({
  now: () => Date.now(),
  random: () => Math.random(),
  after(ms, task) {
    const timer = setTimeout(task, ms >= 60_000 ? stayMs : ms >= 5_000 ? 2_000 : ms);
    return () => clearTimeout(timer);
  },
});

function device(url: string, stayMs: number): Client {
  const made = connect({ url, token: server.token, clock: hurried(stayMs) });
  closes.push(() => made.close());
  return made;
}

const port = (of: Server | TcpServer): Promise<string> =>
  new Promise((resolve) => of.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${(of.address() as { port: number }).port}`)));

interface Proxy {
  readonly url: string;
  upgrade: "refuse" | "hang" | "pass";
  buffer: boolean;
}

/** A proxy of HTTP as companies have them: what it does to WebSockets, and whether it keeps streams back until they end. */
async function proxy(upgrade: Proxy["upgrade"], buffer = false): Promise<Proxy> {
  const target = new URL(server.url);
  const to = (incoming: IncomingMessage): object => ({ host: target.hostname, port: target.port, path: incoming.url, method: incoming.method, headers: { ...incoming.headers, host: target.host } });
  const made: { -readonly [Name in keyof Proxy]: Proxy[Name] } = { url: "", upgrade, buffer };
  const http = createServer((incoming: IncomingMessage, outgoing: ServerResponse) => {
    const inner = request(to(incoming), (answer) => {
      const stream = made.buffer && String(answer.headers["content-type"]).startsWith("text/event-stream");
      if (stream) {
        const kept: Buffer[] = [];
        answer.on("data", (data: Buffer) => void kept.push(data));
        answer.on("end", () => outgoing.writeHead(answer.statusCode ?? 500, answer.headers).end(Buffer.concat(kept)));
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(outgoing);
    });
    inner.on("error", () => outgoing.destroy());
    outgoing.on("close", () => inner.destroy());
    incoming.pipe(inner);
  });
  const sockets = new Set<Socket>();
  http.on("connection", (socket) => void sockets.add(socket));
  http.on("upgrade", (incoming: IncomingMessage, socket: Socket) => {
    socket.on("error", () => undefined);
    if (made.upgrade === "hang") return;
    if (made.upgrade === "refuse") return void socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    const inner = request(to(incoming));
    inner.on("upgrade", (answer, peer: Socket) => {
      const lines = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}`);
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("\r\n")}\r\n\r\n`);
      peer.on("error", () => socket.destroy());
      peer.pipe(socket).on("close", () => peer.destroy());
      socket.pipe(peer);
    });
    inner.on("error", () => socket.destroy());
    inner.end();
  });
  made.url = await port(http);
  closes.push(() => {
    http.close();
    for (const socket of sockets) socket.destroy();
  });
  return made;
}

/** A connection that is cut again and again, wherever it is then. */
async function cutting(everyMs: () => number): Promise<{ url: string; readonly cuts: number }> {
  const target = new URL(server.url);
  const made = { url: "", cuts: 0 };
  const sockets = new Set<Socket>();
  const tcp = listen((socket) => {
    const peer = dial(Number(target.port), target.hostname);
    const end = (): void => (socket.destroy(), peer.destroy(), void sockets.delete(socket));
    sockets.add(socket);
    for (const one of [socket, peer]) one.on("error", end).on("close", end);
    socket.pipe(peer);
    peer.pipe(socket);
    const cut = setTimeout(() => ((made.cuts += 1), end()), everyMs());
    socket.on("close", () => clearTimeout(cut));
  });
  made.url = await port(tcp);
  closes.push(() => {
    tcp.close();
    for (const socket of sockets) socket.destroy();
  });
  return made;
}

const note = (n: number) => ({ type: "app.note", n });
const numbers = (events: readonly FabricEvent[]) => events.filter(({ type }) => type === "app.note").map(({ body }) => body["n"]);
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Write through one way and read through the same, in pieces, while `between` changes what the network does. */
async function same(url: string, count: number, between: (n: number, reader: Client) => Promise<void> | void = () => undefined, stayMs = 1_000): Promise<Client> {
  const session = newId("s");
  const reader = device(url, stayMs);
  const seen: FabricEvent[] = [];
  reader.session(session).open({ events: (events) => seen.push(...events) });
  const writer = device(url, stayMs).session(session);
  for (let n = 0; n < count; n += 1) {
    await writer.append(note(n));
    await between(n, reader);
  }
  await eventually(() => numbers(seen).length >= count, 60_000);
  assert.deepEqual(numbers(seen), upTo(count));
  return reader;
}

for (const how of ["refuse", "hang"] as const) {
  test(`where a proxy lets WebSockets ${how === "hang" ? "hang" : "be refused"}, server-sent events bring the same, and the client is back on a WebSocket when it can be`, async () => {
    const between = await proxy(how);
    // Now and then it tries the better one, and comes back.
    const bySse = (client: Client) => eventually(() => client.status.transport === "sse" && client.status.phase === "live");
    const reader = await same(between.url, 20, (n, client) => (n === 19 ? bySse(client) : undefined));
    between.upgrade = "pass";
    await eventually(() => reader.status.transport === "websocket" && reader.status.phase === "live", 40_000);
  });
}

test("where a proxy keeps streams back as well, long polls bring the same, and a WebSocket is taken when it can be", async () => {
  const between = await proxy("refuse", true);
  // Longer than the client waits for a stream's first word.
  const reader = await same(between.url, 10, undefined, 8_000);
  assert.equal(reader.status.transport, "long-poll");
  between.upgrade = "pass";
  await eventually(() => reader.status.transport === "websocket" && reader.status.phase === "live", 40_000);
});

test("who moves from a network with WebSockets to one without goes on by server-sent events", async () => {
  const between = await proxy("pass");
  const reader = await same(between.url, 5);
  assert.equal(reader.status.transport, "websocket");
  between.upgrade = "refuse";
  reader["connection"].drop("the network is another one");
  await eventually(() => reader.status.transport === "sse" && reader.status.phase === "live", 60_000);
});

test("over a connection that is cut every 200 to 1,000 ms every event arrives once and in order", async () => {
  const network = await cutting(() => 200 + Math.random() * 800);
  await same(network.url, 100, () => new Promise((resolve) => setTimeout(resolve, 20)));
  assert.ok(network.cuts >= 3, `${network.cuts} cuts`);
});

test("where every second connection is refused, several sessions are read and written by server-sent events all the same", { timeout: 60_000 }, async () => {
  const target = new URL(server.url);
  const sockets = new Set<Socket>();
  let dialled = 0;
  const tcp = listen((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    if ((dialled += 1) % 2 === 1) return void socket.resetAndDestroy();
    const peer = dial(Number(target.port), target.hostname);
    sockets.add(peer);
    peer.on("error", () => socket.destroy()).on("close", () => socket.destroy());
    socket.on("close", () => peer.destroy());
    socket.pipe(peer).pipe(socket);
  });
  closes.push(() => {
    tcp.close();
    for (const socket of sockets) socket.destroy();
  });
  const client = connect({ url: await port(tcp), token: server.token, transports: httpTransports().slice(0, 1) });
  closes.push(() => client.close());
  let lives = 0;
  client.on("welcome", () => void (lives += 1));
  const sessions = Array.from({ length: 6 }, () => client.session(newId("s")));
  const seen = sessions.map((session) => {
    const events: FabricEvent[] = [];
    session.open({ events: (more) => events.push(...more) });
    return events;
  });
  await Promise.all(sessions.map((session) => session.append(note(0))));
  await eventually(() => seen.every((events) => numbers(events).length === 1), 20_000);
  assert.equal(lives, 1, "the refused connections of some took all others with them");
});

for (const transport of [webSocketTransport(), ...httpTransports()]) {
  test(`by ${transport.name}: what cannot be sent is refused, and all else goes on over the connection that is there`, { timeout: 60_000 }, async () => {
    const made = connect({ url: server.url, token: server.token, transports: [transport] });
    closes.push(() => made.close());
    const phases: string[] = [];
    made.on("status", ({ phase }) => void phases.push(phase));
    const session = made.session(newId("s"));
    const event = (x: unknown): Promise<unknown> => session.append({ type: "app.note", x });
    await event("first");
    const live = phases.length;
    const loop: unknown[] = [];
    loop.push(loop);
    for (const [wrong, refused] of [["half a pair: \ud83d", { code: "invalid_request" }], [1n, TypeError], [loop, TypeError]] as const) {
      await assert.rejects(event(wrong), refused);
    }
    await event("last");
    assert.deepEqual(phases.slice(live), []);
  });
}

for (const transport of [webSocketTransport(), ...httpTransports()]) {
  test(`by ${transport.name}: the view "messages" leaves out what a list of messages does not need`, async () => {
    const made = connect({ url: server.url, token: server.token, transports: [transport] });
    closes.push(() => made.close());
    const session = made.session(newId("s"));
    const seen: FabricEvent[] = [];
    session.open({ events: (events) => seen.push(...events) }, { view: "messages" });
    await eventually(() => session.live);
    // A device that comes while it is live, and leaves, before a last word.
    const other = connect({ url: server.url, token: server.token });
    closes.push(() => other.close());
    const its = other.session(session.name);
    const present: FabricEvent[] = [];
    its.open({ events: (events) => present.push(...events) }, { presence: {} });
    await eventually(() => present.some(({ type }) => type === "presence.joined"));
    await session.append(note(0));
    await eventually(() => numbers(seen).length === 1);
    assert.deepEqual(seen.filter(({ type }) => type.startsWith("presence.")), []);
  });
}
