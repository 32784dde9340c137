import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Http } from "../src/http.js";
import { FabricError } from "../src/index.js";
import { Hand, settled } from "./hand.js";
import { offset } from "./make.js";

const body = { type: "app.note", text: "hello" };

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

test("what cannot be spelled is refused at once, whatever the transport, and sends nothing", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  await assert.rejects(hand.client.session("chat").append({ type: "app.note", n: 1n }), TypeError);
  assert.equal(wire.count("append"), 0);
});

test("a question's number stands first, where a gateway finds it that cannot read the rest", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  void hand.client.session("chat").append(body).catch(() => undefined);
  await settled();
  assert.match(JSON.stringify(wire.last("append")), /^{"id":\d+,/);
  hand.client.close();
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

test("one request too many is refused as that, also to who may call it off", async () => {
  const hand = new Hand();
  await hand.greet();
  const { signal } = new AbortController();
  const ask = (): Promise<unknown> => hand.client.session("chat").control("cancel", "r1", { signal }).catch((error: unknown) => error);
  const asked = Array.from({ length: 1_001 }, ask);
  const last = await asked[1_000];
  assert.ok(last instanceof FabricError, `${last}`);
  assert.equal(last.code, "limit_exceeded");
  hand.client.close();
  await Promise.all(asked);
});

test("an append that was aborted before waits for nothing, and keeps nothing waiting", async () => {
  const hand = new Hand();
  const wire = await hand.greet();
  const session = hand.client.session("chat");
  const first = session.append(body, { id: "e1" });
  let told = "nothing";
  session.append(body, { id: "e2", signal: AbortSignal.abort() }).catch((error: FabricError) => (told = error.code));
  const third = session.append(body, { id: "e3" });
  await settled();
  assert.equal(told, "aborted");
  const sent = (): unknown[] => wire.sent.filter((frame) => frame.op === "append").map((frame) => (frame as { event: { id: string } }).event.id);
  assert.deepEqual(sent(), ["e1"]);
  hand.client.close();
  for (const other of [first, third]) await assert.rejects(other, (error: FabricError) => error.code === "closed");
});

test("of what is no gateway's answer the detail is told, else its title, else the status", async (t) => {
  let answer = "";
  const server = createServer((_, response) => response.writeHead(502, { "content-type": "application/problem+json" }).end(answer));
  t.after(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const http = new Http(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, undefined);
  const said = async (body: string): Promise<string> => {
    answer = body;
    return http.json("GET", "/").then(() => "fine", (error: FabricError) => (assert.ok(error.retryable), error.message.trim()));
  };
  assert.equal(await said('{"title":"Bad Gateway","detail":"No route."}'), "No route.");
  assert.equal(await said('{"title":"Bad Gateway"}'), "Bad Gateway");
  assert.equal(await said("<html>"), "The gateway answered 502.");
});
