import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.js";
import { Choice } from "../src/choice.js";
import { systemClock } from "../src/clock.js";
import { expand, parseFrame, Refs } from "../src/frames.js";
import { Heartbeat } from "../src/heartbeat.js";
import { newId } from "../src/ids.js";
import { Position } from "../src/position.js";
import { Queue } from "../src/queue.js";
import { SseParser } from "../src/transports/sse.js";
import type { Transport } from "../src/transports/transport.js";
import { delta, offset } from "./make.js";

const seen = (position: Position, ...numbers: number[]): string[] =>
  position.take(numbers.map((n) => delta(n))).map(({ offset }) => offset);

test("the first retry is quick, later ones wait longer, none longer than the cap", () => {
  const backoff = new Backoff(100, 3_000);
  assert.ok(backoff.next(0.999) <= 100);
  const waits = Array.from({ length: 10 }, () => backoff.next(0));
  assert.deepEqual(waits, [...waits].sort((a, b) => a - b));
  assert.ok(backoff.next(0.999) <= 3_000);
  backoff.reset();
  assert.ok(backoff.next(0) >= 50 && backoff.next(0) <= 200);
});

const times = { busyMs: 10, idleMs: 35, patienceMs: 50, doubtMs: 5 };

test("a silent connection is asked, then dropped", () => {
  const heartbeat = new Heartbeat(0, times);
  assert.equal(heartbeat.beat(9, false), "wait");
  assert.equal(heartbeat.beat(10, false), "ping");
  assert.equal(heartbeat.beat(59, false), "wait");
  assert.equal(heartbeat.beat(60, false), "drop");
});

test("a silent connection is found dead also where the machine's time is set back by an hour", (context) => {
  let wall = 1_764_000_000_000;
  context.mock.method(Date, "now", () => wall);
  const heartbeat = new Heartbeat(systemClock.now(), times);
  wall -= 3_600_000;
  const beats = Array.from({ length: 70 }, () => ((wall += 1), heartbeat.beat(systemClock.now(), false)));
  assert.deepEqual([...new Set(beats)], ["wait", "ping", "drop"]);
});

test("one that answers is asked ever more seldom, until something happens on it", () => {
  const heartbeat = new Heartbeat(0, times);
  const asked: number[] = [];
  for (let now = 0; now < 130; now += 1) {
    if (now === 100) heartbeat.sign(now, false);
    if (heartbeat.beat(now, false) === "ping") {
      asked.push(now);
      heartbeat.sign(now, true);
    }
  }
  assert.deepEqual(asked, [10, 30, 65, 110]);
});

test("silence is noticed sooner while an answer is awaited, soonest after the network changed", () => {
  const heartbeat = new Heartbeat(0, times);
  heartbeat.sign(0, true);
  heartbeat.sign(0, true);
  assert.equal(heartbeat.beat(10, false), "wait");
  assert.equal(heartbeat.beat(10, true), "ping");
  heartbeat.sign(11, true);
  heartbeat.doubt();
  assert.equal(heartbeat.beat(12, false), "ping");
  assert.equal(heartbeat.beat(17, false), "drop");
});

const transports = (...names: string[]): Transport[] => names.map((name) => ({ name }) as Transport);

test("the best transport is kept for a while once it has worked, and not for ever: we may be in another network", () => {
  const choice = new Choice(transports("a", "b"));
  assert.equal(choice.worked(), null);
  choice.ended();
  for (let i = 0; i < 5; i += 1) choice.failed();
  assert.equal(choice.current.name, "a");
  choice.failed();
  assert.equal(choice.current.name, "b");
});

test("a transport that was welcomed and carries nothing is not tried again, unless it is the only one", () => {
  const choice = new Choice(transports("a", "b", "c"));
  choice.failed();
  choice.failed();
  choice.worked();
  choice.useless(); // b
  choice.ended();
  const names = Array.from({ length: 4 }, () => (choice.failed(), choice.current.name));
  assert.deepEqual(names, ["c", "c", "a", "a"]);
  const only = new Choice(transports("a"));
  only.useless();
  assert.equal(only.current.name, "a");
});

test("a transport that does not work gives way after two tries, round and round", () => {
  const choice = new Choice(transports("a", "b"));
  const names = Array.from({ length: 5 }, () => (choice.failed(), choice.current.name));
  assert.deepEqual(names, ["a", "b", "b", "a", "a"]);
});

test("while a lesser transport works, the best gets another try now and then", () => {
  const choice = new Choice(transports("a", "b"));
  choice.failed();
  choice.failed();
  const first = choice.worked();
  choice.ended();
  assert.equal(choice.current.name, "a");
  choice.failed();
  assert.equal(choice.current.name, "b");
  assert.ok(first !== null && (choice.worked() ?? 0) > first);
});

test("a stream of events is the same however it was cut", () => {
  const stream = ': hi\n\nid: 1\ndata: {"a":1}\n\nevent: mark\r\ndata: {"o":2}\r\n\r\ndata: x\ndata: y\n\n';
  const whole = new SseParser().push(stream);
  assert.deepEqual(whole, [
    { event: "message", data: '{"a":1}' },
    { event: "mark", data: '{"o":2}' },
    { event: "message", data: "x\ny" },
  ]);
  for (let cut = 1; cut < stream.length; cut += 1) {
    const parser = new SseParser();
    assert.deepEqual([...parser.push(stream.slice(0, cut)), ...parser.push(stream.slice(cut))], whole, `cut at ${cut}`);
  }
});

test("fields that equal the previous event's are put back, a null run too", () => {
  const body = { type: "x" };
  const events = expand([
    { offset: offset(1), id: "e1", type: "x", actor: "user:a", run: "r1", ts: 5, body },
    { offset: offset(2), id: "e2", body },
    { offset: offset(3), run: null, actor: "user:b", body },
  ]);
  assert.deepEqual(events[1], { offset: offset(2), id: "e2", type: "x", actor: "user:a", run: "r1", ts: 5, body });
  assert.deepEqual(events[2], { offset: offset(3), type: "x", actor: "user:b", run: null, ts: 5, body });
});

test("compact deltas are written out, each where the last ended", () => {
  const refs = new Refs();
  const ref = { op: "ref", sub: 1, ref: 3, segment: "1764000000000000", type: "TEXT_MESSAGE_CONTENT" } as const;
  refs.announce({ ...ref, actor: "agent:w", run: "r1", message: "m1", at: 120 });
  refs.announce({ ...ref, ref: 4, type: "TOOL_CALL_ARGS", actor: "agent:w", run: "r1", message: "t1", at: 0 });
  const events = refs.expand([1, 3, 42, "h😀", 4, 43, "{", 3, 44, "!"]);
  assert.deepEqual(events[0], {
    offset: offset(42),
    type: "TEXT_MESSAGE_CONTENT",
    actor: "agent:w",
    run: "r1",
    at: 120,
    body: { type: "TEXT_MESSAGE_CONTENT", messageId: "m1", delta: "h😀" },
  });
  assert.deepEqual(events[1]?.body, { type: "TOOL_CALL_ARGS", toolCallId: "t1", delta: "{" });
  assert.equal(events[2]?.at, 123);
});

test("a delta under a ref that was never announced is not guessed at", () => {
  assert.throws(() => new Refs().expand([1, 3, 42, "x"]));
});

test("what is not a frame is told apart from one", () => {
  assert.equal(parseFrame("nonsense"), undefined);
  assert.equal(parseFrame("3"), undefined);
  assert.equal(parseFrame("null"), undefined);
  assert.deepEqual(parseFrame('[1,2,3,"x"]'), [1, 2, 3, "x"]);
  assert.deepEqual(parseFrame('{"op":"live","sub":1}'), { op: "live", sub: 1 });
});

test("history is let through once, and its last event is a place to resume from", () => {
  const position = new Position("start");
  position.opened(offset(9));
  assert.equal(position.resume, "start");
  assert.deepEqual(seen(position, 1, 2, 5), [offset(1), offset(2), offset(5)]);
  assert.equal(position.resume, offset(5));
  assert.deepEqual(seen(position, 2, 5, 6), [offset(6)]);
});

test("live events are resumed from the last mark, and what comes again is dropped", () => {
  const position = new Position("start");
  position.opened(offset(1));
  seen(position, 1);
  position.wentLive();
  seen(position, 2, 3, 5);
  assert.equal(position.resume, offset(1));
  position.mark(offset(3));
  assert.equal(position.resume, offset(3));
  position.opened(offset(6));
  assert.deepEqual(seen(position, 4, 5, 6), [offset(4), offset(6)]);
});

test("what follows a mark may have holes, also before `live`: nothing of it is a place to resume from", () => {
  const position = new Position("start");
  position.opened(offset(6));
  seen(position, 1, 2);
  position.mark(offset(2));
  seen(position, 3, 5, 6);
  position.wentLive();
  assert.equal(position.resume, offset(2));
  position.rewind(offset(3));
  assert.deepEqual(seen(position, 4, 5, 6), [offset(4)]);
});

test("after a rewind only what was missed is let through", () => {
  const position = new Position(offset(1));
  position.opened(offset(1));
  position.wentLive();
  seen(position, 2, 4, 5);
  position.rewind(offset(2));
  assert.deepEqual(seen(position, 3, 4, 5, 6), [offset(3), offset(6)]);
});

test("a rewind below a mark, or below where history ended, brings what was missed and nothing else again", () => {
  const position = new Position("start");
  position.opened(offset(9));
  seen(position, 5, 6, 7, 9);
  position.mark(offset(9));
  position.wentLive();
  position.rewind(offset(6));
  assert.equal(position.resume, offset(6));
  assert.deepEqual(seen(position, 7, 8, 9, 10), [offset(8), offset(10)]);
  position.mark(offset(10));
  assert.deepEqual(seen(position, 9, 10, 11), [offset(11)]);
});

test("what was let through is not remembered for ever", () => {
  const position = new Position("start");
  for (let at = 1; at <= 10_000; at += 100) seen(position, ...Array.from({ length: 100 }, (_, n) => at + n));
  position.wentLive();
  seen(position, ...Array.from({ length: 5_000 }, (_, n) => 10_001 + n));
  assert.equal(position["had"].size, 7_000);
  position.mark(offset(15_000));
  assert.equal(position["had"].size, 2_000);
});

test("a reader of the tail that reconnects before anything came resumes from where it first looked", () => {
  const position = new Position("tail");
  position.opened(offset(7));
  position.wentLive();
  position.opened(offset(9));
  assert.equal(position.resume, offset(7));
});

test("a queue gives what it has and then its end", async () => {
  const queue = new Queue<number>(10, () => new Error("full"), () => undefined);
  queue.push([1, 2]);
  queue.end(null);
  queue.push([3]);
  const got: number[] = [];
  for await (const item of queue) got.push(item);
  assert.deepEqual(got, [1, 2]);
});

test("a queue that overflows ends with an error after what it has", async () => {
  let left = 0;
  const queue = new Queue<number>(2, () => new Error("full"), () => (left += 1));
  queue.push([1, 2, 3]);
  assert.equal(left, 1);
  assert.equal((await queue.next()).value, 1);
  assert.equal((await queue.next()).value, 2);
  await assert.rejects(queue.next(), /full/);
});

test("ids have the form that the wire asks for", () => {
  for (let i = 0; i < 200; i += 1) assert.match(newId("e"), /^e[a-v0-9]{26}$/);
});
