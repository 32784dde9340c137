import assert from "node:assert/strict";
import { test } from "node:test";
import { type Presence, presence } from "../src/life/index.js";
import { Hand, settled } from "./hand.js";
import { offset } from "./make.js";

async function talking(): Promise<{ hand: Hand; chat: ReturnType<ReturnType<Hand["client"]["session"]>["conversation"]>; here: Presence }> {
  const hand = new Hand();
  await hand.greet();
  const here = presence(hand.client.session("chat"));
  const chat = hand.client.session("chat").conversation();
  hand.opened(1);
  hand.wire.say({ op: "live", sub: 1 });
  return { hand, chat, here };
}

test("what is sent is shown at once, and once when the log has it", async () => {
  const { hand, chat } = await talking();
  const sent = chat.send("Hello");
  await settled();
  assert.deepEqual(chat.sending.map(({ text }) => text), ["Hello"]);
  const { id, event } = hand.wire.last("append");
  hand.wire.say({
    op: "events",
    sub: 1,
    events: [{ offset: offset(1), id: event.id, type: "message.user", actor: "user:ada", run: null, ts: 1, body: event.body }],
  });
  assert.deepEqual(chat.sending, []);
  assert.deepEqual(chat.messages.map(({ content }) => content), ["Hello"]);
  hand.wire.say({ op: "appended", id: id as number, offset: offset(1), duplicate: false });
  await sent;
  assert.equal(chat.messages.length, 1);
});

test("what is refused stays, says why, and can be sent again as the same event", async () => {
  const { hand, chat } = await talking();
  const sent = chat.send("Hello");
  await settled();
  const first = hand.wire.last("append");
  hand.wire.say({ op: "error", id: first.id as number, code: "forbidden", message: "No.", retryable: false });
  await assert.rejects(sent);
  assert.equal(chat.sending[0]?.error?.code, "forbidden");
  const again = chat.resend(chat.sending[0]?.id ?? "");
  await settled();
  assert.deepEqual(hand.wire.last("append").event, first.event);
  assert.equal(chat.sending[0]?.error, null);
  hand.client.close();
  await assert.rejects(again, /closed/);
});

test("what is said in a session that was deleted is refused, and makes no other one", async () => {
  const { hand, chat } = await talking();
  hand.wire.say({ op: "gone", sub: 1, code: "session_gone", message: "The session was deleted." });
  await assert.rejects(chat.send("Hello"), /deleted/);
  assert.deepEqual(chat.sending.map(({ text, error }) => [text, error?.code]), [["Hello", "session_gone"]]);
  assert.equal(hand.wire.count("append"), 0);
});

test("a page that is hidden before it is painted hears all the same of what comes, once a frame of time", async (t) => {
  const { hand, chat } = await talking();
  await new Promise((resolve) => chat.on("change", resolve)); // of its opening
  const paints: (() => void)[] = [];
  Object.assign(globalThis, { document: { visibilityState: "visible" }, requestAnimationFrame: (paint: () => void) => paints.push(paint) });
  t.after(() => Object.assign(globalThis, { document: undefined, requestAnimationFrame: undefined }));
  let told = 0;
  let heard = (): void => undefined;
  chat.on("change", () => ((told += 1), heard()));
  const said = (n: number): void =>
    hand.wire.say({ op: "events", sub: 1, events: [{ offset: offset(n), type: "message.user", actor: "user:bob", run: null, ts: 1, body: { type: "message.user", message: { id: `m${n}`, content: "" } } }] });
  const wait = new Promise<void>((resolve) => (heard = resolve));
  said(1);
  said(2);
  await wait; // it is painted never
  assert.deepEqual([told, paints.length], [1, 1]);
  paints[0]?.(); // shown again
  assert.equal(told, 1);
  said(3);
  paints[1]?.();
  assert.equal(told, 2);
});

test("the list of messages is the same one until something comes that changes it", async () => {
  const { hand, chat } = await talking();
  const list = chat.messages;
  hand.wire.say({ op: "mark", sub: 1, offset: offset(1) });
  assert.equal(chat.messages, list);
  hand.wire.say({ op: "events", sub: 1, events: [{ offset: offset(2), type: "message.user", actor: "user:bob", run: null, ts: 1, body: { type: "message.user", message: { id: "m", content: "" } } }] });
  assert.notEqual(chat.messages, list);
});

test("stop interrupts the runs that are active", async () => {
  const { hand, chat } = await talking();
  const event = (n: number, type: string, run: string, more = {}) => ({
    offset: offset(n), id: `e${n}`, type, actor: "agent:w", run, ts: 1, body: { type, ...more },
  });
  hand.wire.say({
    op: "events",
    sub: 1,
    events: [event(1, "run.claimed", "r1", { run: "r1" }), event(2, "RUN_FINISHED", "r1"), event(3, "run.claimed", "r2", { run: "r2" })],
  });
  assert.deepEqual(chat.activeRuns.map(({ id }) => id), ["r2"]);
  const stopped = chat.stop();
  await settled();
  const { id, run, action } = hand.wire.last("control");
  assert.deepEqual([run, action], ["r2", "interrupt"]);
  hand.wire.say({ op: "appended", id: id as number, offset: offset(4), duplicate: false });
  await stopped;
});

test("who is there comes from the gateway, then from the log", async () => {
  const { hand, here } = await talking();
  const members = [{ participant: "user:ada", device: "d1", data: {}, since: 1 }];
  hand.wire.say({ op: "present", id: hand.wire.last("who").id as number, members });
  await settled();
  const presence = (n: number, type: string) => ({
    offset: offset(n), id: `e${n}`, type, actor: "user:bob", run: null, ts: n,
    body: { type, participant: "user:bob", device: "d2", data: { name: "Bob" } },
  });
  hand.wire.say({ op: "events", sub: 1, events: [presence(5, "presence.joined")] });
  assert.deepEqual(here.members.map(({ participant }) => participant), ["user:ada", "user:bob"]);
  hand.wire.say({ op: "events", sub: 1, events: [presence(6, "presence.left")] });
  assert.deepEqual(here.members.map(({ participant }) => participant), ["user:ada"]);
});

test("when what it had been about to read is gone, it begins anew with what is left", async () => {
  const { hand, chat } = await talking();
  const said = (n: number, text: string) => ({
    offset: offset(n), id: `e${n}`, type: "message.user", actor: "user:ada", run: null, ts: n,
    body: { type: "message.user", message: { id: `m${n}`, role: "user", content: text } },
  });
  hand.wire.say({ op: "events", sub: 1, events: [said(1, "long ago")] }, { op: "mark", sub: 1, offset: offset(1) });
  hand.wire.events.closed(1006, "");
  await hand.clock.pass(100);
  const wire = await hand.greet();
  const { id, after } = wire.last("open");
  assert.equal(after, offset(1));
  wire.say({ op: "error", id: id as number, code: "offset_gone", message: "Too old.", retryable: false, resync: "start" });
  assert.equal(wire.last("open").after, "start");
  hand.opened(2);
  wire.say({ op: "events", sub: 2, events: [said(9, "lately")] }, { op: "live", sub: 2 });
  assert.deepEqual(chat.messages.map(({ content }) => content), ["lately"]);
  assert.equal(chat.error, null);
});

test("who joins while it is being asked who is there is not forgotten over the answer", async () => {
  const { hand, here } = await talking();
  const { id } = hand.wire.last("who");
  const body = { type: "presence.joined", participant: "user:bob", device: "d2", data: {} };
  hand.wire.say({ op: "events", sub: 1, events: [{ offset: offset(5), id: "e5", type: "presence.joined", actor: "user:bob", run: null, ts: 5, body }] });
  hand.wire.say({ op: "present", id: id as number, members: [] });
  await settled();
  assert.deepEqual(here.members.map(({ participant }) => participant), ["user:bob"]);
});
