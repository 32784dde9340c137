import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { connect, FabricError, type Status, type Transport } from "../src/index.js";
import { presence } from "../src/life/index.js";
import { eventually } from "./dev.js";
import { Hand, settled } from "./hand.js";
import { delta, offset } from "./make.js";

const body = { type: "app.note", text: "hello" };

test("it says hello with its token, device and wish for compact deltas", async () => {
  const hand = new Hand({ token: () => Promise.resolve("t1"), device: "tab1" });
  const wire = await hand.greet();
  const hello = wire.last("hello");
  assert.equal(hello.token, "t1");
  assert.equal(hello.device, "tab1");
  assert.equal(hello.deltas, "compact");
  assert.equal(hand.client.participant, "user:ada");
  assert.equal(hand.client.status.phase, "live");
});

test("a follower gets history and live events, each once, over a reconnect", async () => {
  const hand = new Hand();
  const first = await hand.greet();
  const events = hand.client.session("chat").follow();
  assert.equal(first.last("open").after, "start");
  hand.opened(1, offset(3));
  first.say({ op: "events", sub: 1, events: [delta(1), delta(2)] }, { op: "live", sub: 1 });
  first.say({ op: "events", sub: 1, events: [delta(3)] }, { op: "mark", sub: 1, offset: offset(3) });
  first.say({ op: "events", sub: 1, events: [delta(4)] });
  first.events.closed(1006, "");
  await hand.clock.pass(100);
  const second = await hand.greet();
  assert.notEqual(second, first);
  assert.equal(second.last("open").after, offset(3));
  hand.opened(7, offset(5));
  second.say({ op: "events", sub: 7, events: [delta(4), delta(5)] }, { op: "live", sub: 7 });
  const got: string[] = [];
  for await (const event of events) if (got.push(event.offset) === 5) break;
  assert.deepEqual(got, [1, 2, 3, 4, 5].map(offset));
  assert.deepEqual(second.last("close"), { op: "close", sub: 7 });
});

test("a silent connection is asked, dropped and replaced", async () => {
  const hand = new Hand();
  const first = await hand.greet();
  await hand.clock.pass(2_500);
  assert.equal(first.count("ping"), 1);
  await hand.clock.pass(4_000);
  assert.ok(first.closedWith !== null);
  assert.equal(hand.wires.length, 2);
  first.say({ op: "broker", connected: false }); // a dead wire's last words count for nothing
  assert.equal(hand.client.status.broker, true);
});

test("a connection that answers pings is kept", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  for (let i = 0; i < 20; i += 1) {
    await hand.clock.pass(2_500);
    if (wire.count("ping") > 0) wire.say({ op: "pong", id: 0 });
  }
  assert.equal(hand.wires.length, 1);
});

test("a dial that hangs is given up and tried again", async () => {
  const hand = new Hand();
  await hand.clock.pass(20_000);
  assert.ok(hand.wires.length >= 3);
  assert.ok(hand.wires[0]?.closedWith !== null);
});

for (const code of [1001, 1006, 1011, 4408, 4409, 4410]) {
  test(`close code ${code} means reconnect, with a token asked for anew`, async () => {
    let tokens = 0;
    const hand = new Hand({ token: () => `t${(tokens += 1)}` });
    const wire = await hand.greet();
    wire.events.closed(code, "");
    assert.equal(hand.client.status.phase, "reconnecting");
    await hand.clock.pass(100);
    await hand.greet();
    assert.equal(hand.client.status.phase, "live");
    assert.equal(hand.wire.last("hello").token, "t2");
  });
}

for (const code of [4500, 4501, 4502, 4503, 4504]) {
  test(`close code ${code} means give up, and everyone who waits is told why`, async () => {
    const hand = new Hand();
    const wire = await hand.greet();
    const reading = hand.client.session("chat").follow().next();
    const appended = hand.client.session("chat").append(body);
    await settled();
    wire.say({ op: "error", code: "unauthenticated", message: "Who are you?", retryable: false });
    wire.events.closed(code, "unauthenticated");
    await assert.rejects(reading, /Who are you/);
    await assert.rejects(appended, /Who are you/);
    await hand.clock.pass(60_000);
    assert.equal(hand.wires.length, 1);
    assert.equal(hand.client.status.phase, "closed");
    assert.equal(hand.client.status.error?.code, "unauthenticated");
  });
}

test("an expired token that nobody can renew ends it", async () => {
  const hand = new Hand({ token: "t1" });
  const wire = await hand.greet();
  wire.events.closed(4410, "token expired");
  assert.equal(hand.client.status.phase, "closed");
  assert.equal(hand.client.status.error?.code, "token_expired");
});

test("a gateway that is about to stop is left at a random moment within the time it gave", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  wire.say({ op: "moved", after_ms: 4_000 });
  await hand.clock.pass(1_999);
  assert.equal(hand.wires.length, 1);
  await hand.clock.pass(1);
  assert.equal(hand.wires.length, 2);
});

test("a lost broker is told, and the connection stays", async () => {
  const hand = new Hand();
  const seen: Status[] = [];
  hand.client.on("status", (status) => seen.push(status));
  const wire = await hand.greet();
  wire.say({ op: "broker", connected: false });
  assert.equal(seen.at(-1)?.broker, false);
  wire.say({ op: "broker", connected: true });
  assert.equal(seen.at(-1)?.broker, true);
  assert.equal(hand.wires.length, 1);
});

test("a session that is gone ends its reader alone", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  const reading = hand.client.session("chat").follow().next();
  hand.opened(1);
  wire.say({ op: "gone", sub: 1, code: "session_gone", message: "It was deleted." });
  await assert.rejects(reading, (error: FabricError) => error.code === "session_gone");
  assert.equal(hand.client.status.phase, "live");
  hand.client.session("chat").open({ events: () => undefined });
  assert.equal(wire.count("open"), 2);
});

test("a refused open ends its reader with the refusal's facts", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  const reading = hand.client.session("chat").follow({ after: offset(1) }).next();
  const { id } = wire.last("open");
  wire.say({ op: "error", id: id as number, code: "offset_gone", message: "Too old.", retryable: false, resync: "start" });
  await assert.rejects(reading, (error: FabricError) => error.code === "offset_gone" && error.facts["resync"] === "start");
});

test("each connection is asked for a session once", async () => {
  const hand = new Hand();
  hand.client.session("chat").open({ events: () => undefined });
  const first = await hand.greet();
  assert.equal(first.count("open"), 1);
  first.events.closed(1006, ""); // before it was answered
  await hand.clock.pass(100);
  const second = await hand.greet();
  assert.equal(second.count("open"), 1);
});

test("a session is opened once by a client, and again after it was closed", async () => {
  const hand = new Hand();
  await hand.greet();
  const session = hand.client.session("chat");
  const first = session.open({ events: () => undefined });
  assert.throws(() => session.open({ events: () => undefined }), /has chat open/);
  first.close();
  session.open({ events: () => undefined });
});

test("many sessions share a connection, and each gets its own", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  const got: string[] = [];
  for (const [sub, name] of ["a", "b"].entries()) {
    hand.client.session(name).open({ events: (events) => got.push(...events.map(({ offset }) => `${name} ${offset}`)) });
    hand.opened(sub + 1);
  }
  wire.say({ op: "events", sub: 2, events: [delta(1)] }, { op: "events", sub: 1, events: [delta(2)] });
  assert.deepEqual(got, [`b ${offset(1)}`, `a ${offset(2)}`]);
});

test("a delta under a ref that was never announced makes it resume on a new connection", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  hand.client.session("chat").open({ events: () => undefined });
  hand.opened(1);
  wire.say([1, 5, 9, "lost"]);
  assert.ok(wire.closedWith !== null);
  await hand.clock.pass(100);
  assert.equal(hand.wires.length, 2);
});

test("closing fails what has no answer and lets go of the wire", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  const appended = hand.client.session("chat").append(body);
  await settled();
  hand.client.close();
  await assert.rejects(appended, (error: FabricError) => error.code === "closed");
  assert.equal(wire.closedWith, 1000);
  await hand.clock.pass(60_000);
  assert.equal(hand.wires.length, 1);
});

test("a client that has ended, by whomever, listens to its page no more", async (t) => {
  const signals: AbortSignal[] = [];
  Object.assign(globalThis, { window: { addEventListener: (_name: string, _listener: unknown, { signal }: { signal: AbortSignal }) => signals.push(signal) } });
  t.after(() => Object.assign(globalThis, { window: undefined }));
  const hand = new Hand({ token: "t1" });
  (await hand.greet()).events.closed(4410, "token expired");
  new Hand().client.close();
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true, true, true, true, true, true]);
});

test("what is opened on a client that is over ends with why it is over, and throws nothing", async () => {
  const hand = new Hand({ token: "t1" });
  (await hand.greet()).events.closed(4410, "token expired");
  const session = hand.client.session("chat");
  const chat = session.conversation();
  const [started] = await Promise.allSettled([session.client.session("other").follow().next(), settled()]);
  assert.deepEqual([chat.stage, chat.error?.code], ["ended", "token_expired"]);
  assert.equal(started.status === "rejected" && started.reason.code, "token_expired");
  await assert.rejects(chat.send("Hello"), (error: FabricError) => error.code === "token_expired");
  chat.close();
  session.conversation().close(); // once more: nothing holds its place
});

test("a token that cannot be had is told, and is no reason to do without a WebSocket", async () => {
  const dialled: string[] = [];
  const transports = ["websocket", "sse"].map((name): Transport => ({
    name,
    available: () => true,
    dial: (_target, events) => (dialled.push(name), events.opened(), { send: () => undefined, close: () => undefined }),
  }));
  let token = (): Promise<string> => Promise.reject(new Error("not signed in"));
  const hand = new Hand({ token: () => token(), transports });
  await hand.clock.pass(20_000);
  const { phase, error } = hand.client.status;
  assert.deepEqual([phase, error?.code, error?.message.includes("not signed in")], ["connecting", "no_token", true]);
  token = () => new Promise(() => undefined);
  await hand.clock.pass(20_000);
  token = () => Promise.resolve("t1");
  await hand.clock.pass(9_000);
  assert.equal(dialled[0], "websocket");
  hand.client.close();
});

test("a url that is none is refused at once", () => {
  for (const url of ["gateway.example", "", "null"]) {
    assert.throws(() => connect({ url }), (error: FabricError) => error.code === "invalid_request" && error.message.includes(`${url}.`));
  }
  assert.throws(() => connect(), (error: FabricError) => error.code === "invalid_request");
});

test("what a session has told is let go with what it was told to", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const hand = new Hand();
  const wire = await hand.greet();
  const session = hand.client.session("chat");
  const closed = (): WeakRef<object>[] => {
    const first = session.conversation();
    hand.opened(1);
    wire.say({ op: "live", sub: 1 }, { op: "mark", sub: 1, offset: offset(8) });
    first.close();
    const second = session.conversation();
    hand.opened(2);
    wire.say({ op: "gone", sub: 2, code: "session_gone", message: "It was deleted." });
    second.close();
    return [new WeakRef(first), new WeakRef(second)];
  };
  const told = closed();
  await eventually(() => (collect(), told.every((one) => one.deref() === undefined)));
  hand.client.close();
});

test("presence goes with each open, signals and cursors of others arrive", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  const session = hand.client.session("chat");
  session.open({ events: () => undefined }, { presence: { name: "Ada" } });
  assert.deepEqual(wire.last("open").presence, { name: "Ada" });
  hand.opened(1);
  const got: unknown[] = [];
  session.on("signal", ({ actor, body }) => got.push([actor, body]));
  session.on("cursor", ({ actor, offset }) => got.push([actor, offset]));
  wire.say({ op: "signal", sub: 1, actor: "user:bob", device: "d", body: { type: "typing" } });
  wire.say({ op: "cursor", sub: 1, actor: "user:bob", device: "d", offset: offset(3) });
  assert.deepEqual(got, [["user:bob", { type: "typing" }], ["user:bob", offset(3)]]);
  const who = presence(session).who();
  await settled();
  wire.say({ op: "present", id: wire.last("who").id as number, members: [{ participant: "user:bob" }] });
  assert.deepEqual(await who, [{ participant: "user:bob" }]);
});

test("a transport that cannot even be dialled is tried again", async () => {
  let dials = 0;
  const broken = { name: "broken", available: () => true, dial: () => { dials += 1; throw new Error("not here"); } };
  const hand = new Hand({ transports: [broken] });
  await hand.clock.pass(2_000);
  assert.ok(dials > 2);
  hand.client.close();
});
