import assert from "node:assert/strict";
import { test } from "node:test";
import { FabricError } from "../src/index.js";
import { agents, branches, clientTools, floor, type OpenRequest, presence, requests, state } from "../src/life/index.js";
import type { Body, ClientFrame } from "../src/words.js";
import { Hand, type HandWire, settled } from "./hand.js";
import { offset } from "./make.js";

async function opened(after: "start" | "tail" = "start"): Promise<{ hand: Hand; wire: HandWire; session: ReturnType<Hand["client"]["session"]> }> {
  const hand = new Hand({ device: "tab" });
  const wire = await hand.greet();
  const session = hand.client.session("chat");
  session.open({ events: () => undefined }, { after });
  hand.opened(1);
  return { hand, wire, session };
}

const live = (wire: HandWire): void => wire.say({ op: "live", sub: 1 });
const event = (n: number, body: Body, actor = "agent:w") => ({ offset: offset(n), id: `e${n}`, type: body.type, actor, run: "r1", ts: n, body });
const events = (wire: HandWire, ...list: ReturnType<typeof event>[]): void => wire.say({ op: "events", sub: 1, events: list });
const tool = (n: number, more = {}) => event(n, { type: "tool.requested", request: `q${n}`, run: "r1", tool: "pick", args: { n }, to: null, deadline_ms: 50, ...more });
const listed = (request: string, more = {}): OpenRequest => ({
  request, kind: "tool", run: "r1", tool: "pick", args: {}, to: null, offset: offset(1), asked: 1, deadline: null, claimed: null, ...more,
});

async function answer(wire: HandWire, op: ClientFrame["op"], fields: object): Promise<void> {
  await settled();
  wire.say({ op: "ok", ...fields, id: (wire.last(op) as { id: number }).id });
  await settled();
}

async function lose(hand: Hand): Promise<HandWire> {
  hand.wire.events.closed(1006, "");
  await hand.clock.pass(200);
  return hand.greet();
}

test("what is open is what the gateway says and what has come since it was asked", async () => {
  const { wire, session } = await opened("tail");
  const list = requests(session);
  live(wire);
  events(wire, tool(5), event(6, { type: "tool.answered", request: "q1", run: "r1", by: "user:bob" }));
  assert.equal(list.ready, false);
  await answer(wire, "requests", { requests: [listed("q1"), listed("q2", { offset: offset(2) })] });
  assert.deepEqual(list.open.map(({ request }) => request), ["q2", "q5"]);
  assert.deepEqual([list.get("q5")?.deadline, list.get("q5")?.kind], [55, "tool"]);
  events(wire, event(7, { type: "tool.claimed", request: "q2", run: "r1", by: "user:bob", device: "x", until: 9 }, "user:bob"));
  assert.equal(list.get("q2")?.claimed?.by, "user:bob");
  events(wire, event(8, { type: "tool.expired", request: "q2", run: "r1", reason: "run_ended" }));
  assert.deepEqual(list.open.map(({ request }) => request), ["q5"]);
});

test("a request that a rewind brings behind its answer stays closed", async () => {
  const { wire, session } = await opened();
  const list = requests(session);
  live(wire);
  await answer(wire, "requests", { requests: [] });
  events(wire, event(6, { type: "tool.answered", request: "q5", run: "r1", by: "user:bob" }));
  wire.say({ op: "rewind", sub: 1, to: offset(1) });
  events(wire, tool(5));
  assert.deepEqual(list.open, []);
});

test("requests are mine by participant, role and device", async () => {
  const { session } = await opened();
  const list = requests(session);
  const mine = (to: OpenRequest["to"]): boolean => list.mine(listed("q", { to }));
  assert.deepEqual([null, "user:ada", "role:user", { participant: "user:ada", device: "tab" }].map(mine), [true, true, true, true]);
  assert.deepEqual(["user:bob", "role:operator", { participant: "user:ada", device: "x" }, { participant: "user:bob", device: "tab" }].map(mine), [false, false, false, false]);
});

test("an answer is sent again with the same event until there is one, and then the request is closed", async () => {
  const { hand, wire, session } = await opened();
  const list = requests(session);
  live(wire);
  await answer(wire, "requests", { requests: [listed("q1")] });
  const given = list.answer("q1", undefined);
  await settled();
  const first = wire.last("answer");
  assert.equal(first["body"], null);
  const next = await lose(hand);
  assert.deepEqual(next.last("answer"), first);
  await answer(next, "answer", { offset: offset(9), duplicate: true });
  assert.equal(await given, offset(9));
  assert.deepEqual(list.open, []);
});

test("tools run only when the gateway has said what is open, and only those that are ours and here", async () => {
  const { wire, session } = await opened();
  const ran: unknown[] = [];
  const tools = clientTools(session, { pick: (args: unknown) => (ran.push(args), "done") });
  events(wire, tool(1), event(2, { type: "tool.answered", request: "q1", run: "r1" }), tool(3), tool(4, { to: "user:bob" }), tool(5, { tool: "toString" }));
  live(wire);
  await settled();
  assert.deepEqual(tools.running, []);
  await answer(wire, "requests", { requests: [3, 4, 5].map((n) => listed(`q${n}`, { args: { n }, to: n === 4 ? "user:bob" : null, tool: n === 5 ? "toString" : "pick" })) });
  assert.deepEqual(tools.running, ["q3"]);
  await answer(wire, "claim", { until: 1 });
  assert.deepEqual(ran, [{ n: 3 }]);
  const { request, body, device } = wire.last("answer") as Record<string, unknown>;
  assert.deepEqual([request, body, device], ["q3", "done", "tab"]);
  await answer(wire, "answer", { offset: offset(9), duplicate: false });
  assert.deepEqual([wire.count("claim"), tools.running], [1, []]);
  tools.close();
});

test("a tool whose request ends is told so, and answers nothing", async () => {
  const { wire, session } = await opened();
  let told = false;
  const tools = clientTools(session, {
    pick: (_args: unknown, _request: OpenRequest, signal: AbortSignal) => new Promise((_, reject) => signal.addEventListener("abort", () => ((told = true), reject(signal.reason)))),
  });
  live(wire);
  await answer(wire, "requests", { requests: [listed("q1")] });
  await answer(wire, "claim", { until: 1 });
  events(wire, event(9, { type: "tool.expired", request: "q1", run: "r1", reason: "run_ended" }));
  await settled();
  assert.deepEqual([told, tools.running, wire.count("answer")], [true, [], 0]);
  tools.close();
});

test("a result that is refused becomes the tool's error, so that the run does not wait for ever", async () => {
  const { wire, session } = await opened();
  const tools = clientTools(session, { pick: () => "x".repeat(300) });
  live(wire);
  await answer(wire, "requests", { requests: [listed("q1")] });
  await answer(wire, "claim", { until: 1 });
  await settled();
  wire.say({ op: "error", id: wire.last("answer").id as number, code: "too_large", message: "Too much.", retryable: false });
  await settled();
  assert.match(String(wire.last("answer")["error"]), /Too much/);
  tools.close();
});

test("who is second to claim looks again, and does not run the tool", async () => {
  const { wire, session } = await opened();
  const tools = clientTools(session, { pick: () => assert.fail("ran") });
  live(wire);
  await answer(wire, "requests", { requests: [listed("q1")] });
  const { id } = wire.last("claim");
  const until = Date.now() + 60_000;
  wire.say({ op: "error", id: id as number, code: "already_claimed", message: "No.", retryable: false, by: "user:bob", device: "x", until });
  await settled();
  assert.deepEqual([wire.count("claim"), tools.running, tools.requests.get("q1")?.claimed?.until], [1, [], until]);
  tools.close();
});

test("a write whose answer was lost finds what it wrote itself, and a conflict of others is theirs", async () => {
  const { hand, session } = await opened();
  const documents = state(session);
  const cases = [documents.put("a", { n: 1, m: [2] }, 0), documents.patch("b", { x: null, y: 2 }, 1), documents.put("c", { n: 1 }, 0)];
  const next = await lose(hand);
  await settled();
  const current = { a: { m: [2], n: 1 }, b: { y: 2, z: 3 }, c: { n: 2 } };
  for (const frame of next.sent.filter(({ op }) => op.startsWith("state.")) as unknown as { id: number; document: keyof typeof current }[]) {
    const there = { document: frame.document, revision: 2, body: current[frame.document], by: "user:ada", ts: 1 };
    next.say({ op: "error", id: frame.id, code: "conflict", message: "No.", retryable: false, revision: 2, current: there });
  }
  assert.deepEqual((await cases[0])?.revision, 2);
  assert.deepEqual((await cases[1])?.body, { y: 2, z: 3 });
  await assert.rejects(cases[2] as Promise<unknown>, (error: FabricError) => (error.facts["current"] as { body: object }).body !== undefined);
});

test("a watch is said again on each connection, repeats nothing, and is ended by its last watcher", async () => {
  const { hand, wire, session } = await opened();
  const seen: unknown[] = [];
  const push = (revision: number, n: number) => ({ op: "state", session: "chat", document: "plan", revision, body: { n }, by: "user:ada", ts: revision }) as const;
  const stop = state(session).watch("plan", ({ body }) => seen.push(body));
  const other = state(session).watch("plan", () => undefined);
  await answer(wire, "state.watch", {});
  wire.say(push(1, 1), { ...push(9, 9), document: "other" });
  const next = await lose(hand);
  await answer(next, "state.watch", {});
  next.say(push(1, 1), push(2, 2));
  assert.deepEqual(seen, [{ n: 1 }, { n: 2 }]);
  other();
  assert.equal(next.count("state.unwatch"), 0);
  stop();
  assert.equal(next.count("state.unwatch"), 1);
  next.say(push(3, 3));
  assert.equal(seen.length, 2);
});

test("a watch of a session that is gone ends, and what the session's reader has stays open", async () => {
  const { wire, session } = await opened();
  let code = "";
  state(session).watch(null, () => undefined, (error) => (code = error.code));
  wire.say({ op: "gone", session: "chat", code: "session_gone", message: "It was deleted." });
  assert.deepEqual([code, session.live], ["session_gone", false]);
  live(wire);
  assert.equal(session.live, true);
});

test("what we say of ourselves is said again on each connection, until we leave", async () => {
  const { hand, wire, session } = await opened();
  const here = presence(session);
  live(wire);
  const updated = here.update({ data: { name: "Ada" }, status: "tool" });
  await answer(wire, "presence", {});
  await updated;
  const next = await lose(hand);
  hand.opened(1);
  live(next);
  const { data, status } = next.last("presence") as Record<string, unknown>;
  assert.deepEqual([data, status], [{ name: "Ada" }, "tool"]);
  await answer(next, "presence", {});
  const left = here.leave();
  await answer(next, "presence", {});
  await left;
  assert.equal(next.last("presence")["leave"], true);
  events(next, event(5, { type: "presence.updated", participant: "user:bob", device: "x", data: {}, status: "thinking" }));
  assert.equal(here.members[0]?.status, "thinking");
});

test("the floor is asked for at live and at each change, and offers stay until they are decided", async () => {
  const { wire, session } = await opened();
  const view = floor(session, "billing");
  events(wire, event(3, { type: "handoff.offered", pool: "billing", to: "role:operator", note: "angry", deadline_ms: 100, floor: 2 }));
  live(wire);
  const agent = { participant: "agent:w", holder: "h", generation: 1 };
  await answer(wire, "floor", { floor: agent });
  assert.deepEqual([view.current, view.offers.map(({ request, by, deadline }) => [request, by, deadline])], [agent, [["e3", "agent:w", 103]]]);
  const accepted = view.accept("e3", "mine");
  const eve = { participant: "operator:eve", holder: null, generation: 2 };
  await answer(wire, "handoff.accept", { floor: eve });
  assert.deepEqual(await accepted, eve);
  events(wire, event(4, { type: "handoff.accepted", request: "e3", pool: "billing", by: "operator:eve" }));
  events(wire, event(5, { type: "floor.released", pool: "default" }));
  await answer(wire, "floor", { floor: eve });
  assert.deepEqual([view.current, view.offers, wire.count("floor")], [eve, [], 3]);
  events(wire, event(6, { type: "handoff.offered", pool: "billing", to: "role:operator", floor: 4 }));
  await answer(wire, "floor", { floor: eve });
  assert.equal(view.offers.length, 1);
  events(wire, event(7, { type: "handoff.returned", pool: "billing", by: "operator:eve" }));
  await answer(wire, "floor", { floor: { pool: "billing", participant: null, holder: null, generation: 3 } });
  assert.deepEqual([view.current, view.offers], [null, []]);
});

test("branches are chosen, made and asked for by events of the log", async () => {
  const { wire, session } = await opened();
  const view = branches(session);
  const bodies: unknown[] = [];
  for (const act of [() => view.select("m2"), () => view.regenerate("m1"), () => view.edit({ parent: null }, "Hello", { id: "m3" })]) {
    const done = act();
    await settled();
    bodies.push(wire.last("append").event.body);
    await answer(wire, "append", { op: "appended", offset: offset(1), duplicate: false });
    await done;
  }
  assert.deepEqual(bodies, [
    { type: "branch.selected", message: "m2" },
    { type: "message.regenerate", message: "m1" },
    { type: "message.user", message: { id: "m3", role: "user", content: "Hello" }, parent: null },
  ]);
});

test("an agent without a connection is away until it is back, the log says more of its run, or who is away is said anew", async () => {
  const { hand, wire, session } = await opened("tail");
  const one = agents(session);
  const away = (): string[] => one.away.map(({ run, agent }) => `${run} of ${agent}`);
  let changes = 0;
  one.on("change", () => (changes += 1));
  const say = (wire: HandWire, run: string, connected: boolean): void => wire.say({ op: "agent", sub: 1, run, agent: "agent:w", connected });
  live(wire);
  say(wire, "r1", false);
  say(wire, "r2", false);
  assert.deepEqual(away(), ["r1 of agent:w", "r2 of agent:w"]);
  events(wire, event(5, { type: "message.snapshot", message: { id: "m1", role: "assistant", content: "a" } }));
  say(wire, "r2", true);
  assert.deepEqual(away(), ["r1 of agent:w"]);
  events(wire, event(6, { type: "run.orphaned", run: "r1" }));
  assert.deepEqual([away(), changes], [[], 5]);
  say(wire, "r1", false);
  const next = await lose(hand);
  hand.opened(1);
  live(next);
  assert.deepEqual(away(), []);
  one.close();
  say(next, "r1", false);
  assert.deepEqual(away(), []);
});
