// What people and agents do in a session, against a real gateway, broker and agent.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Client, type ConnectOptions, connect, FabricError, httpTransports, newId, type Session, webSocketTransport } from "../src/index.js";
import { clientTools, type DocumentState, floor, type OpenRequests, outcomeOf, policy, presence, requests, runs, state, whisper } from "../src/life/index.js";
import { eventually, scripted } from "./dev.js";

const { server, script, closes } = await scripted();

function device(options: ConnectOptions = {}): Client {
  const client = connect({ url: server.url, token: server.token, ...options });
  closes.push(() => client.close());
  return client;
}

async function opened(name: string, options: ConnectOptions = {}): Promise<Session> {
  const session = device(options).session(name);
  session.open({ events: () => undefined });
  await eventually(() => session.live);
  return session;
}

/** A network that can be cut: what it cuts is found out at once. */
function cuttable(): { transports: ConnectOptions["transports"] & {}; cut(): void } {
  const native = webSocketTransport();
  let cut = (): void => undefined;
  const transport: typeof native = {
    ...native,
    dial(target, events) {
      const wire = native.dial(target, events);
      cut = () => (wire.close(1000, "cut"), events.closed(1006, "cut"));
      return wire;
    },
  };
  return { transports: [transport], cut: () => cut() };
}

const one = async (list: OpenRequests): Promise<string> => {
  await eventually(() => list.open.length === 1);
  return list.open[0]!.request;
};

const ways = { websocket: [webSocketTransport()], sse: [httpTransports()[0]!], "long-poll": [httpTransports()[1]!] };

for (const [name, transports] of Object.entries(ways)) {
  test(`by ${name}: of two who answer an approval one wins, and the other is told who`, async () => {
    const session = newId("s");
    const people = ["operator:eve", "operator:max"];
    const lists = await Promise.all(people.map(async (who) => requests(await opened(session, { token: server.tokenFor(who), transports }))));
    const said = script.order({ do: "approve", session, run: newId("r"), to: "role:operator" });
    const ids = await Promise.all(lists.map(one));
    assert.equal(lists[0]!.open[0]!.title, "Delete 3 files?");
    assert.ok(lists[0]!.mine(lists[0]!.open[0]!));
    const answers = await Promise.allSettled(lists.map((list, n) => list.answer(ids[n]!, { approved: n === 0 })));
    const winner = answers.findIndex(({ status }) => status === "fulfilled");
    const loser = answers[1 - winner] as PromiseRejectedResult;
    assert.deepEqual(await said, { approved: winner === 0, by: people[winner] });
    assert.ok(loser.reason instanceof FabricError);
    assert.deepEqual([loser.reason.code, loser.reason.retryable, loser.reason.facts["by"]], ["already_answered", false, people[winner]]);
    await eventually(() => lists.every(({ open }) => open.length === 0));
  });

  test(`by ${name}: a tool of the page is claimed, run and answered, and its exception is the tool's error`, async () => {
    const name = newId("s");
    const session = await opened(name, { transports });
    const tools = clientTools(session, {
      add: async ({ a, b }: { a: number; b: number }) => a + b,
      fail: () => Promise.reject(new Error("no selection")),
    });
    assert.equal(await script.order({ do: "tool", session: name, run: newId("r"), tool: "add", args: { a: 2, b: 3 } }), 5);
    const failed = await script.order({ do: "tool", session: name, run: newId("r"), tool: "fail" });
    assert.deepEqual(failed, { failed: "no selection" });
    await eventually(() => tools.requests.open.length === 0 && tools.running.length === 0);
  });

  test(`by ${name}: documents are written under a revision, and who loses gets what is there`, async () => {
    const name = newId("s");
    const ada = state(device({ transports }).session(name));
    const bob = state(device({ transports }).session(name));
    const first = await ada.put("plan", { steps: ["a"] }, 0);
    const second = await bob.patch("plan", { done: true });
    await assert.rejects(ada.put("plan", { steps: [] }, first.revision), (error: FabricError) => {
      assert.deepEqual([error.code, error.facts["current"], error.facts["revision"]], ["conflict", second, second.revision]);
      return true;
    });
    assert.deepEqual((await ada.get("plan")).body, { steps: ["a"], done: true });
    assert.deepEqual((await ada.get("none")), { document: "none", revision: 0, body: null, by: null, ts: null });
    assert.deepEqual((await ada.list()).map(({ document }) => document), ["plan"]);
    assert.equal((await ada.delete("plan", second.revision)).body, null);
    assert.deepEqual((await ada.history("plan")).map(({ body }) => body), [null, { steps: ["a"], done: true }, { steps: ["a"] }]);
  });

  test(`by ${name}: whoever watches a document has it, its changes and its end`, async () => {
    const name = newId("s");
    const writer = state(device().session(name));
    await writer.put("plan", { n: 1 });
    const seen: unknown[] = [];
    const all = new Map<string, DocumentState>();
    const watching = state(device({ transports }).session(name));
    const stop = watching.watch("plan", ({ body }) => seen.push(body));
    watching.watch(null, (one) => all.set(one.document, one));
    await eventually(() => seen.length === 1 && all.size === 1);
    await writer.put("plan", { n: 2 });
    await writer.put("notes", { text: "x" });
    await eventually(() => seen.length === 2 && all.size === 2);
    stop();
    await writer.delete("notes");
    await eventually(() => all.get("notes")?.body === null);
    assert.deepEqual(seen, [{ n: 1 }, { n: 2 }]);
    assert.deepEqual(all.get("plan")?.body, { n: 2 });
  });

  test(`by ${name}: a steer is accepted by who listens, and rejected by who does not; a redirect stops the run`, async () => {
    const name = newId("s");
    const session = await opened(name, { transports });
    const listens = newId("r");
    const heard = script.order({ do: "listen", session: name, run: listens });
    const deaf = newId("r");
    const stopped = script.order({ do: "deaf", session: name, run: deaf });
    await eventually(async () => (await runs(session)).length === 2);
    const id = newId("c");
    const rejected = outcomeOf(session, id);
    await session.control("steer", deaf, { id, body: { text: "shorter" } });
    assert.deepEqual([(await rejected).outcome, (await rejected).reason], ["rejected", "unsupported"]);
    const asked = await session.control("steer", listens, { body: { text: "shorter" } });
    assert.equal((await outcomeOf(session, asked)).outcome, "accepted");
    assert.equal(await heard, "shorter");
    const message = { id: newId("m"), role: "user", content: "What does close code 4408 mean?" };
    const redirected = await outcomeOf(session, await session.control("redirect", deaf, { body: { message } }));
    assert.deepEqual([redirected.outcome, redirected.action, redirected.run], ["accepted", "redirect", deaf]);
    assert.equal(await stopped, "stopped");
    assert.ok((await runs(session)).find((run) => run.id === deaf)?.state === "cancelled");
  });

  test(`by ${name}: a whisper is heard by the agent, seen by operators, and never by users`, async () => {
    const name = newId("s");
    const session = await opened(name, { transports });
    const eve = await opened(name, { transports, token: server.tokenFor("operator:eve") });
    const types: Record<string, string[]> = { ada: [], eve: [] };
    session.on("events", (events) => types["ada"]?.push(...events.map(({ type }) => type)));
    eve.on("events", (events) => types["eve"]?.push(...events.map(({ type }) => type)));
    const heard = script.order({ do: "listen", session: name, run: newId("r") });
    await eventually(async () => (await runs(session)).length === 1);
    const first = await whisper(eve, "A gold member", { id: "w1" });
    assert.deepEqual([first.duplicate, (await whisper(eve, "A gold member", { id: "w1" })).duplicate], [false, true]);
    assert.equal(await heard, "A gold member");
    await assert.rejects(whisper(session, "psst"), (error: FabricError) => error.code === "forbidden");
    await session.append({ type: "app.end" });
    await eventually(() => Object.values(types).every((seen) => seen.includes("app.end")));
    assert.deepEqual([types["ada"]?.includes("whisper"), types["eve"]?.includes("whisper")], [false, true]);
  });

  test(`by ${name}: the policy is changed by part, and by who may`, async () => {
    const session = device({ transports }).session(newId("s"));
    await session.append({ type: "app.note" });
    const eve = device({ transports, token: server.tokenFor("operator:eve") }).session(session.name);
    const changed = await policy(eve).set({ when_busy: "reject" });
    assert.equal(changed.when_busy, "reject");
    assert.ok("answer_within_s" in changed);
    await assert.rejects(policy(session).set({ when_busy: "queue" }), (error: FabricError) => error.code === "forbidden");
  });
}

test("a tool that was asked for while we were away is run when we are back, and one whose answer was cut is answered once", async () => {
  const name = newId("s");
  const { transports, cut } = cuttable();
  const session = await opened(name, { transports });
  let calls = 0;
  let go = (): void => undefined;
  const gone = new Promise<void>((resolve) => (go = resolve));
  clientTools(session, {
    slow: async () => {
      calls += 1;
      cut(); // the answer waits for the next connection
      await gone;
      return "done";
    },
  });
  const first = script.order({ do: "tool", session: name, run: newId("r"), tool: "slow" });
  await eventually(() => calls === 1);
  const second = script.order({ do: "tool", session: name, run: newId("r"), tool: "slow" });
  go();
  assert.deepEqual(await Promise.all([first, second]), ["done", "done"]);
  assert.equal(calls, 2);
});

test("a page that was loaded again goes on with what its own device has claimed", async () => {
  const name = newId("s");
  const tab = { device: "tab", token: server.tokenFor("user:ada") };
  const before = await opened(name, tab);
  clientTools(before, { pick: () => new Promise(() => undefined) });
  const said = script.order({ do: "tool", session: name, run: newId("r"), tool: "pick", to: { participant: "user:ada", device: "tab" } });
  const watching = requests(await opened(name));
  await eventually(() => watching.open[0]?.claimed?.device === "tab");
  before.client.close();
  clientTools(await opened(name, tab), { pick: () => 7 });
  assert.equal(await said, 7);
});

test("what a watcher of all documents missed while it was away it has when it is back", async () => {
  const name = newId("s");
  const { transports, cut } = cuttable();
  const session = device({ transports }).session(name);
  const writer = state(device().session(name));
  await writer.put("a", { n: 1 });
  await writer.put("b", { n: 1 });
  const all = new Map<string, unknown>();
  state(session).watch(null, ({ document, body }) => all.set(document, body));
  await eventually(() => all.size === 2);
  cut();
  await Promise.all([writer.delete("a"), writer.put("b", { n: 2 }), writer.put("c", { n: 1 })]);
  await eventually(() => all.get("a") === null && all.size === 3);
  assert.deepEqual([all.get("b"), all.get("c")], [{ n: 2 }, { n: 1 }]);
});

test("a watch of a session that is deleted ends with the reason", async () => {
  const session = device().session(newId("s"));
  await state(session).put("plan", { n: 1 });
  let ended = "";
  let seen = 0;
  state(session).watch("plan", () => (seen += 1), ({ code }) => (ended = code));
  await eventually(() => seen === 1);
  const path = `/v1/sessions/${session.name}`;
  await assert.rejects(session.client.http.json("DELETE", path), (error: FabricError) => error.code === "forbidden");
  const shop = device({ token: server.tokenFor("service:shop", { "*": ["erase"] }) });
  await shop.http.json("DELETE", path).catch(() => undefined); // an answer without a body
  await eventually(() => ended !== "");
  assert.equal(ended, "session_gone");
});

test("an operator takes the floor, speaks in the agent's place and gives it back; a user may not take it", async () => {
  const name = newId("s");
  const user = await opened(name);
  const operator = await opened(name, { token: server.tokenFor("operator:eve") });
  const seen = floor(user);
  const held = floor(operator);
  await assert.rejects(() => seen.take(), (error: FabricError) => error.code === "forbidden" && !error.retryable);
  assert.equal((await held.take("I know her"))?.participant, "operator:eve");
  await eventually(() => seen.current?.participant === "operator:eve");
  await held.say("Good morning", "m1");
  const again = await held.say("Good morning", "m1");
  assert.equal(again.duplicate, true);
  assert.equal(await held.giveBack(), null);
  await eventually(() => seen.current === null);
  await assert.rejects(() => held.say("Still me?"), (error: FabricError) => error.code === "not_holder");
});

test("of two operators who accept an offer one wins, and the other is told who", async () => {
  const name = newId("s");
  const user = await opened(name);
  const eve = await opened(name, { token: server.tokenFor("operator:eve") });
  const max = await opened(name, { token: server.tokenFor("operator:max") });
  const views = [floor(eve), floor(max)];
  await floor(eve).offer("role:operator", { note: "Refund", deadlineMs: 60_000 });
  await eventually(() => views.every(({ offers }) => offers.length === 1));
  const request = views[0]!.offers[0]!.request;
  assert.equal(views[0]!.offers[0]!.note, "Refund");
  const results = await Promise.allSettled(views.map((view) => view.accept(request)));
  const lost = results.filter((one) => one.status === "rejected").map((one) => one.reason as FabricError);
  assert.equal(lost.length, 1);
  assert.equal(lost[0]!.code, "already_answered");
  await eventually(() => views.every(({ offers, current }) => offers.length === 0 && current?.participant === lost[0]!.facts["by"]));
  user.client.close();
});

test("members are seen with what they show and are busy with, over a cut", async () => {
  const name = newId("s");
  const network = cuttable();
  const ada = await opened(name, { transports: network.transports, device: "ada-1" });
  const eve = await opened(name, { token: server.tokenFor("operator:eve"), device: "eve-1" });
  const here = presence(eve);
  const own = presence(ada);
  await own.update({ data: { name: "Ada" }, status: "waiting" });
  const shown = (): unknown => here.members.map(({ participant, data, status }) => [participant, data, status]);
  const wanted = JSON.stringify([["user:you", { name: "Ada" }, "waiting"]]);
  await eventually(() => JSON.stringify(shown()) === wanted);
  network.cut();
  await eventually(() => ada.live);
  await eventually(() => JSON.stringify(shown()) === wanted);
  await own.leave();
  await eventually(() => here.members.length === 0);
});
