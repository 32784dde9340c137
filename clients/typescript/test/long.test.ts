// Long sessions: what has not changed is not worked out again, or a page with thousands of messages stands still at each token.
import assert from "node:assert/strict";
import { test } from "node:test";
import { project, type Projected } from "../src/ai-sdk/index.js";
import { feedOf } from "../src/feed/index.js";
import type { Body, FabricEvent } from "../src/words.js";
import { Hand, settled } from "./hand.js";
import { offset } from "./make.js";

const event = (n: number, body: Body, run: string | null): FabricEvent => ({ offset: offset(n), id: `e${n}`, type: body.type, actor: run ? "agent:w" : "user:ada", run, ts: n, body });

/** A question and its answer. */
function turn(n: number): FabricEvent[] {
  const run = `r${n}`;
  return [
    event(10 * n, { type: "message.user", message: { id: `u${n}`, role: "user", content: "?" } }, null),
    event(10 * n + 1, { type: "RUN_STARTED", input: offset(10 * n), message: `u${n}` }, run),
    event(10 * n + 2, { type: "message.completed", message: { id: `a${n}`, role: "assistant", content: "!" } }, run),
    event(10 * n + 3, { type: "RUN_FINISHED", outcome: { type: "success" } }, run),
  ];
}

test("a token in one run leaves all others as they were worked out", async (t) => {
  const hand = new Hand();
  const wire = await hand.greet();
  const feed = feedOf(hand.client.session("chat"));
  t.after(() => (feed.close(), hand.client.close()));
  hand.opened(1);
  wire.say({ op: "events", sub: 1, events: [...turn(1), ...turn(2)] }, { op: "live", sub: 1 });
  await settled();
  const known = new Map<string, Projected>();
  const before = project(feed, known);
  assert.deepEqual(before.map(({ message }) => message.id), ["u1", "r1", "u2", "r2"]);
  assert.equal(feed.now("r1").messages, feed.now("r1").messages);
  assert.equal(feed.waiting, undefined);
  wire.say({ op: "events", sub: 1, events: [event(30, { type: "message.user", message: { id: "u3", role: "user", content: "?" } }, null)] });
  assert.equal(feed.waiting, "e30");
  const began = event(31, { type: "RUN_STARTED", input: offset(30), message: "u3" }, "r3");
  wire.say({ op: "events", sub: 1, events: [began, { ...event(32, { type: "TEXT_MESSAGE_CONTENT", messageId: "a3", delta: "!" }, "r3"), at: 0 }] });
  assert.equal(feed.waiting, undefined);
  const now = project(feed, known);
  assert.deepEqual(now.map(({ message }) => message.id), ["u1", "r1", "u2", "r2", "u3", "r3"]);
  for (const run of ["r1", "r2"]) assert.equal(now.find((one) => one.run === run), before.find((one) => one.run === run));
  wire.say({ op: "events", sub: 1, events: [{ ...event(33, { type: "TEXT_MESSAGE_CONTENT", messageId: "a3", delta: "!" }, "r3"), at: 1 }] });
  assert.deepEqual(project(feed, known).at(-1)?.message.parts, [{ type: "text", text: "!!", state: "streaming" }]);
});
