import assert from "node:assert/strict";
import { test } from "node:test";
import { FabricError, type Status } from "../src/index.js";
import { presence } from "../src/life/index.js";
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

test("an append is sent again with the same id, body and since until it is answered", async () => {
  const hand = new Hand();
  const first = await hand.greet();
  const session = hand.client.session("chat");
  session.open({ events: () => undefined });
  hand.opened(1);
  first.say({ op: "live", sub: 1 }, { op: "mark", sub: 1, offset: offset(8) });
  const appended = session.append(body, { id: "e1" });
  await settled();
  assert.deepEqual(first.last("append").event, { id: "e1", body });
  assert.equal(first.last("append").since, undefined);
  first.say({ op: "mark", sub: 1, offset: offset(9) });
  first.events.closed(1006, "");
  await hand.clock.pass(100);
  const second = await hand.greet();
  const again = second.last("append");
  assert.deepEqual(again.event, { id: "e1", body });
  assert.equal(again.since, offset(8));
  second.say({ op: "error", id: again.id as number, code: "broker_unavailable", message: "No broker.", retryable: true });
  await hand.clock.pass(3_000);
  const third = second.last("append");
  assert.equal(second.count("append"), 2);
  assert.deepEqual([third.event, third.since], [again.event, again.since]);
  second.say({ op: "appended", id: third.id as number, offset: offset(10), duplicate: true });
  assert.deepEqual(await appended, { offset: offset(10), duplicate: true });
});

test("what is appended before there is a connection is sent when there is one, in order", async () => {
  const hand = new Hand();
  const session = hand.client.session("chat");
  const one = session.append({ type: "app.one" });
  const two = session.append({ type: "app.two" });
  const wire = await hand.greet();
  assert.equal(wire.count("append"), 1);
  assert.equal(wire.last("append").event.body.type, "app.one");
  wire.say({ op: "appended", id: wire.last("append").id as number, offset: offset(1), duplicate: false });
  await one;
  await settled();
  assert.equal(wire.last("append").event.body.type, "app.two");
  wire.say({ op: "error", id: wire.last("append").id as number, code: "forbidden", message: "No.", retryable: false });
  await assert.rejects(two, (error: FabricError) => error.code === "forbidden" && !error.retryable);
});

test("an event that is too large for the gateway is refused here, and the connection stays", async () => {
  const hand = new Hand();
  await settled();
  hand.wire.welcome({ max_frame_bytes: 200 });
  const error = await hand.client.session("chat").append({ type: "app.big", text: "x".repeat(300) }).catch((e) => e);
  assert.equal(error.code, "too_large");
  assert.equal(hand.client.status.phase, "live");
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

test("an aborted append is given up by its caller", async () => {
  const hand = new Hand();
  await hand.greet();
  const abort = new AbortController();
  const appended = hand.client.session("chat").append(body, { signal: abort.signal });
  await settled();
  abort.abort();
  await assert.rejects(appended, (error: FabricError) => error.code === "aborted");
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
