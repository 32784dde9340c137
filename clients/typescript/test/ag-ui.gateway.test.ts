// AG-UI's own client over a real gateway, broker and agent.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BaseEvent, Message } from "@ag-ui/client";
import { connect, newId } from "../src/index.js";
import { FabricAgent } from "../src/ag-ui/index.js";
import { asked, eventually, scripted } from "./dev.js";

const { server, script, closes } = await scripted();

interface Device {
  readonly agent: FabricAgent;
  readonly events: BaseEvent[];
  ask(text: string): Promise<unknown>;
  text(): string;
}

/** An agent of AG-UI as another device than every other one has it. */
function device(session: string, pool = "script"): Device {
  const client = connect({ url: server.url, token: server.token });
  const agent = new FabricAgent({ session: client.session(session), pool });
  closes.push(() => (agent.close(), client.close()));
  const events: BaseEvent[] = [];
  agent.subscribe({ onEvent: ({ event }) => void events.push(event) });
  return {
    agent,
    events,
    ask(text) {
      agent.addMessage({ id: newId("m"), role: "user", content: text });
      return agent.runAgent();
    },
    text: () => String(agent.messages.filter(({ role }) => role === "assistant").at(-1)?.content ?? ""),
  };
}

const said = (messages: readonly Message[]): unknown[] => messages.map(({ role, content }) => [role, String(content).trim()]);
const types = ({ events }: Device): string[] => events.map(({ type }) => String(type));

test("an answer is run, with what was thought and what tools found", async () => {
  const one = device(newId("s"));
  await one.ask('think Hm.\nlook search {"q":1}\nsay one two');
  assert.deepEqual(said(one.agent.messages).slice(1), [["reasoning", "Hm."], ["assistant", "one two"], ["tool", 'looked for {"q":1}']]);
  assert.equal(types(one)[0], "RUN_STARTED");
  assert.equal(types(one).at(-1), "RUN_FINISHED");
});

test("who connects has the session's messages and the run that goes on, from its beginning", async () => {
  const session = newId("s");
  const first = device(session);
  await first.ask("say zero");
  const running = first.ask("say one two\nwait\nsay three");
  await eventually(() => first.text() === "one two ");
  const second = device(session);
  const attached = second.agent.connectAgent();
  await eventually(() => second.text() === "one two ");
  script.release(session);
  await Promise.all([running, attached]);
  assert.deepEqual(said(second.agent.messages), said(first.agent.messages));
  assert.equal(second.text(), "one two three ");
  const third = device(session);
  await third.agent.connectAgent(); // nothing goes on: what there is, and its end
  assert.deepEqual(said(third.agent.messages), said(first.agent.messages));
});

test("detaching leaves the run alive, aborting ends it for everybody", async () => {
  const session = newId("s");
  const [a, b] = [device(session), device(session)];
  const running = a.ask("say one\nwait\nsay two\nwait");
  await eventually(() => a.text() === "one ");
  await a.agent.detachActiveRun();
  await running;
  const attached = b.agent.connectAgent();
  await eventually(() => b.text() === "one ");
  script.release(session);
  await eventually(() => b.text() === "one two ");
  b.agent.abortRun();
  await attached;
  assert.deepEqual((b.events.at(-1) as unknown as { outcome: object }).outcome, { type: "cancelled" });
});

test("stopping says what became of it", async () => {
  const session = newId("s");
  const one = device(session);
  const running = one.ask("say one\nwait");
  await eventually(() => one.text() === "one ");
  assert.equal((await one.agent.stop())?.outcome, "accepted");
  await running;
  assert.equal(await one.agent.stop(), null);
});

test("a message that nobody has taken is stopped for whoever comes", async () => {
  const session = newId("s");
  const one = device(session, "nobody");
  const running = one.ask("hello");
  await eventually(() => asked(server, session, "message.user"));
  const stopped = one.agent.stop();
  await eventually(() => asked(server, session, "control.requested"));
  const { deadline_ms, run } = (await asked(server, session, "control.requested"))!;
  assert.equal(deadline_ms, null);
  assert.equal(await script.order({ do: "deaf", session, run: String(run) }), "stopped");
  assert.equal((await stopped)?.outcome, "accepted");
  await running;
  assert.deepEqual((one.events.at(-1) as unknown as { outcome: object }).outcome, { type: "cancelled" });
});

test("an approval is an interrupt, answered by resume on whatever device shows it", async () => {
  const session = newId("s");
  const [a, b] = [device(session), device(session)];
  await a.ask("say Well\napprove Delete 3 files?\nsay Done");
  const [interrupt] = a.agent.pendingInterrupts;
  assert.deepEqual([interrupt?.reason, interrupt?.message], ["session-fabric:approval", "Delete 3 files?"]);
  await b.agent.connectAgent();
  assert.equal(b.agent.pendingInterrupts[0]?.id, interrupt?.id);
  await b.agent.runAgent({ resume: [{ interruptId: interrupt!.id, status: "resolved", payload: { approved: true } }] });
  assert.match(b.text(), /^Well Granted by user:\w+\.Done $/);
  await a.agent.connectAgent();
  assert.equal(a.text(), b.text());
  assert.deepEqual(a.agent.pendingInterrupts, []);
});

test("a tool of the page is answered by a tool message", async () => {
  const one = device(newId("s"));
  await one.ask("say Where\ntool locate {}");
  const finished = one.events.at(-1) as unknown as { outcome: { pendingToolCallIds: string[] } };
  const [toolCallId] = finished.outcome.pendingToolCallIds;
  one.agent.addMessage({ id: newId("m"), role: "tool", toolCallId: toolCallId!, content: '{"lat":48}' });
  await one.agent.runAgent();
  assert.match(one.text(), /It is \{"lat": 48\}\.$/);
});

test("a run that fails says why", async () => {
  const one = device(newId("s"));
  await one.ask("say one\nfail The model is gone.").catch(() => undefined);
  const last = one.events.at(-1) as unknown as { type: string; message: string };
  assert.deepEqual([last.type, last.message], ["RUN_ERROR", "The model is gone."]);
});

test("what was said already is answered anew, and nothing is said twice", async () => {
  const session = newId("s");
  const one = device(session);
  await one.ask("say one");
  await one.agent.runAgent();
  const other = device(session);
  await other.agent.connectAgent();
  assert.deepEqual(said(other.agent.messages), [["user", "say one"], ["assistant", "one"]]);
});
