import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Claims } from "../src/feed/claims.js";
import { feedOf } from "../src/feed/index.js";
import { clientTools } from "../src/life/index.js";
import { Hand, type HandWire, settled } from "./hand.js";
import { offset } from "./make.js";

const HOUR_MS = 3_600_000;
/** The broker's clock. */
const NOW = 1_800_000_000_000;
const UNTIL = NOW + 30_000;

/** A session in which a tool is asked for, as a page has it whose clock is off by so much. */
async function asked(t: TestContext, off: number): Promise<{ wire: HandWire; session: ReturnType<Hand["client"]["session"]>; answer: (op: "claim" | "requests", fields: object) => Promise<void> }> {
  t.mock.timers.enable({ apis: ["Date", "setTimeout", "setInterval"], now: NOW + off });
  const hand = new Hand({ device: "tab" });
  await hand.greet();
  const { wire } = hand;
  const answer = async (op: "claim" | "requests", fields: object): Promise<void> => {
    wire.say({ op, id: wire.last(op).id as number, ...fields } as never);
    await settled();
  };
  t.after(() => hand.client.close());
  return { wire, session: hand.client.session("chat"), answer };
}

const request = { request: "q1", kind: "tool", run: "r1", to: null, offset: offset(3), asked: 1, deadline: null, claimed: null, tool: "pick", args: {} };
const refusal = (wire: HandWire, until: number) => ({ op: "error", id: wire.last("claim").id as number, code: "already_claimed", message: "No.", retryable: false, by: "user:bob", device: "x", until }) as const;

async function offered(t: TestContext, off: number) {
  const { wire, session, answer } = await asked(t, off);
  const tools = clientTools(session, { pick: () => "done" });
  t.after(() => tools.close());
  session.open({ events: () => undefined });
  wire.say({ op: "opened", id: wire.last("open").id as number, sub: 1, head: offset(3), session: { session: "chat" } }, { op: "live", sub: 1 });
  await settled();
  await answer("requests", { requests: [request] });
  return { wire, tools };
}

test("a page whose clock is ahead asks now and then for what another device has claimed", async (t) => {
  const { wire } = await offered(t, HOUR_MS);
  wire.say(refusal(wire, UNTIL));
  await settled();
  assert.equal(wire.count("claim"), 1);
  t.mock.timers.tick(999);
  await settled();
  assert.equal(wire.count("claim"), 1);
  t.mock.timers.tick(1);
  await settled();
  assert.equal(wire.count("claim"), 2);
});

test("a page whose clock is behind waits for no longer than a claim lasts", async (t) => {
  const { wire } = await offered(t, -HOUR_MS);
  wire.say(refusal(wire, UNTIL));
  await settled();
  t.mock.timers.tick(29_999);
  await settled();
  assert.equal(wire.count("claim"), 1);
  t.mock.timers.tick(1);
  await settled();
  assert.equal(wire.count("claim"), 2);
});

for (const [clock, off] of Object.entries({ right: 0, ahead: HOUR_MS, behind: -HOUR_MS })) {
  test(`what a framework's page has claimed is its own, and is claimed again, where its clock is ${clock}`, async (t) => {
    const { wire, session, answer } = await asked(t, off);
    const feed = feedOf(session);
    const claims = new Claims(feed);
    t.after(() => (claims.close(), feed.close()));
    wire.say({ op: "opened", id: wire.last("open").id as number, sub: 1, head: offset(3), session: { session: "chat" } }, { op: "live", sub: 1 });
    await settled();
    await answer("requests", { requests: [request] });
    let told = 0;
    feed.on("change", () => (told += 1));
    assert.equal(claims.held("q1"), false);
    await answer("claim", { until: UNTIL });
    assert.ok(told > 0);
    assert.equal(claims.held("q1"), true);
    const body = { type: "tool.claimed", request: "q1", run: "r1", by: "user:ada", device: "tab", until: UNTIL };
    wire.say({ op: "events", sub: 1, events: [{ offset: offset(4), id: "e4", type: "tool.claimed", actor: "user:ada", run: "r1", ts: NOW, body }] });
    assert.equal(claims.held("q1"), true);
    assert.equal(wire.count("claim"), 1);
    t.mock.timers.tick(10_000);
    await settled();
    assert.equal(wire.count("claim"), 2);
    // Another device has it, since ours had lapsed while the page was asleep.
    wire.say(refusal(wire, UNTIL));
    await settled();
    assert.equal(claims.held("q1"), false);
    assert.equal(wire.count("claim"), 2);
  });
}
