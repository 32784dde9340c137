import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { connect } from "../src/index.js";
import { Follower } from "../src/shared/follower.js";
import { shared } from "../src/shared/index.js";
import { Leader } from "../src/shared/leader.js";
import { type Machine, machineOf, scopeOf } from "../src/shared/machine.js";
import { Trunk } from "../src/shared/trunk.js";
import { type End, LANES } from "../src/shared/words.js";
import { asBrowser, HandSocket } from "./browser.js";
import { eventually } from "./dev.js";

beforeEach(() => {
  asBrowser();
  HandSocket.all = [];
});

const jwt = (claims: object): string => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.y`;

/** Writes down what it is told. */
class Ear implements End {
  readonly heard: unknown[] = [];
  opened = (): void => void this.heard.push("opened");
  text = (text: string): void => void this.heard.push(text);
  over = (code: number, reason: string): void => void this.heard.push([code, reason]);
  alone = (): void => void this.heard.push("alone");
}

function trunk(): { socket: HandSocket; trunk: Trunk; left: number[] } {
  const socket = new HandSocket("", [LANES]);
  const left: number[] = [];
  return { socket, trunk: new Trunk(socket as unknown as WebSocket, { leaving: () => left.push(1) }), left };
}

test("tabs are brought together by gateway and participant, whatever else their tokens say", () => {
  const ada = jwt({ sub: "user:ada", tenant: "t", jti: "1", exp: 1 });
  assert.equal(scopeOf("u", ada), scopeOf("u", jwt({ sub: "user:ada", tenant: "t", jti: "2", exp: 2 })));
  assert.equal(scopeOf("u", jwt({ sub: "user:ädä" })), scopeOf("u", jwt({ exp: 1, sub: "user:ädä" })));
  for (const other of [{ sub: "user:bob", tenant: "t" }, { sub: "user:ada", tenant: "u" }, { sub: "user:ada", tenant: "t", iss: "i" }, { tenant: "t" }]) {
    assert.notEqual(scopeOf("u", ada), scopeOf("u", jwt(other)));
  }
  assert.notEqual(scopeOf("u", ada), scopeOf("v", ada));
  assert.equal(scopeOf("u", "opaque"), scopeOf("u", "opaque"));
  assert.notEqual(scopeOf("u", "opaque"), scopeOf("u", "another"));
  assert.notEqual(scopeOf("u", "a.b.c"), scopeOf("u", "a.b.d"));
});

test("frames go to the lane that is named before them, and back", () => {
  const { socket, trunk: one } = trunk();
  const [a, b] = [new Ear(), new Ear()];
  const first = one.lane(a);
  const second = one.lane(b);
  first.send("too early");
  socket.open();
  first.send('{"op":"hello"}');
  first.send('{"op":"ping"}');
  second.send('{"op":"hello"}');
  second.hold();
  first.go();
  assert.deepEqual(socket.said, ["1", '{"op":"hello"}', '{"op":"ping"}', "2", '{"op":"hello"}', '"hold"', "1", '"go"']);
  socket.say("2", '{"op":"welcome"}', "[1,2]", "1", '{"op":"welcome"}', '"4410 token expired"', '{"op":"late"}');
  assert.deepEqual(a.heard, ["opened", '{"op":"welcome"}', [4410, "token expired"]]);
  assert.deepEqual(b.heard, ["opened", '{"op":"welcome"}', "[1,2]"]);
  second.close("left");
  second.close("twice");
  assert.deepEqual(socket.said.slice(-2), ["2", '"leave"']);
  socket.say("2", '{"op":"late"}');
  assert.equal(b.heard.length, 3);
});

test("the lane that speaks first has the lowest number, whichever was there first", () => {
  const { socket, trunk: one } = trunk();
  const [other, own] = [new Ear(), new Ear()];
  const [others, ours, silent] = [one.lane(other), one.lane(own), one.lane(new Ear())];
  socket.open();
  ours.send('{"op":"hello","device":"own"}');
  others.send('{"op":"hello","device":"other"}');
  silent.close("closed");
  // The gateway takes a number that is not above all before for a lane that has ended, and answers nothing.
  assert.deepEqual(socket.said, ["1", '{"op":"hello","device":"own"}', "2", '{"op":"hello","device":"other"}']);
  socket.say("1", '{"op":"welcome","to":"own"}', "2", '{"op":"welcome","to":"other"}');
  assert.deepEqual(own.heard, ["opened", '{"op":"welcome","to":"own"}']);
  assert.deepEqual(other.heard, ["opened", '{"op":"welcome","to":"other"}']);
});

test("a tab asks for a lane only when it has its lock, whoever begins to lead before", async () => {
  const machine: Machine = { ...machineOf(HandSocket as unknown as typeof WebSocket)! };
  const [here, there] = [new BroadcastChannel("a lobby"), new BroadcastChannel("a lobby")];
  const dialled: unknown[] = [];
  there.onmessage = ({ data }) => void dialled.push(data);
  let grant = (): void => undefined;
  const slow = { request: (_: string, __: object, granted: () => unknown) => new Promise<void>((resolve) => (grant = () => (granted(), resolve()))) };
  const follower = new Follower({ ...machine, locks: slow as unknown as LockManager }, "a scope", here, new Ear());
  follower.call();
  here.postMessage("after it");
  await eventually(() => dialled.length > 0);
  assert.deepEqual(dialled, ["after it"]);
  grant();
  await eventually(() => dialled.length === 2);
  follower.close("the test ends");
  for (const channel of [here, there]) channel.close();
});

test("a gateway that does not know of lanes shares with nobody", () => {
  const { socket, trunk: one } = trunk();
  const ear = new Ear();
  one.lane(ear);
  socket.open("session-fabric.v1");
  assert.deepEqual(ear.heard, ["alone"]);
  assert.ok(socket.closed && one.over);
});

test("a socket that ends is the end of all lanes, said once", () => {
  const { socket, trunk: one } = trunk();
  const ears = [new Ear(), new Ear()];
  for (const ear of ears) one.lane(ear);
  socket.open();
  socket.onclose?.({ code: 1001, reason: "the gateway stops" });
  socket.say("1", "late");
  for (const ear of ears) assert.deepEqual(ear.heard, ["opened", [1001, "the gateway stops"]]);
});

test("a gateway that sends one lane elsewhere gets no new ones", () => {
  const { socket, trunk: one, left } = trunk();
  const lanes = [one.lane(new Ear()), one.lane(new Ear()), one.lane(new Ear())];
  socket.open();
  lanes[0]!.close("closed");
  assert.equal(left.length, 0);
  lanes[1]!.close("moved");
  assert.equal(left.length, 1);
  socket.say("3", '"1001 the gateway stops"');
  assert.equal(left.length, 2);
});

test("a socket on which a lane has waited in vain is dead if nothing at all has come, and else it stays", (t) => {
  t.mock.timers.enable({ apis: ["Date"] });
  const { socket, trunk: one } = trunk();
  const [a, b] = [new Ear(), new Ear()];
  const lanes = [one.lane(a), one.lane(b), one.lane(new Ear())];
  socket.open();
  lanes[0]!.send("ping");
  t.mock.timers.tick(3_000);
  socket.say("2", "for another");
  lanes[0]!.close("silence");
  assert.ok(!one.over);
  lanes[1]!.send("ping");
  t.mock.timers.tick(3_000);
  lanes[2]!.close("silence");
  assert.ok(one.over);
  assert.deepEqual(b.heard.at(-1), [1006, "silence"]);
});

test("a tab that takes nothing is sent a bounded part, and goes on when it does", async () => {
  const machine: Machine = { ...machineOf(HandSocket as unknown as typeof WebSocket)! };
  const leader = new Leader(machine, "http://gateway");
  const tab = new BroadcastChannel("a link");
  const got: { from: string; text?: string }[] = [];
  tab.onmessage = ({ data }) => void got.push(data);
  let goes = (): void => undefined;
  void machine.locks.request("a link", () => new Promise<void>((resolve) => (goes = resolve)));
  leader.link("a link");
  const [socket] = HandSocket.all as [HandSocket];
  socket.open();
  tab.postMessage({ to: leader.id, text: '{"op":"hello"}' });
  await eventually(() => socket.said.at(-1) === '{"op":"hello"}');
  const kilobyte = "x".repeat(1024);
  for (let n = 0; n < 300; n += 1) socket.say("1", `{"text":"${kilobyte}"}`);
  assert.equal(socket.said.at(-1), '"hold"');
  await eventually(() => got.filter(({ text }) => text).length === 300);
  const size = got.reduce((sum, { text = "" }) => sum + text.length, 0);
  tab.postMessage({ to: "one that led before", had: size });
  tab.postMessage({ to: leader.id, had: size - 70_000 });
  tab.postMessage({ to: leader.id, text: '{"op":"ping"}' });
  await eventually(() => socket.said.at(-1) === '{"op":"ping"}');
  assert.ok(!socket.said.includes('"go"'));
  tab.postMessage({ to: leader.id, had: 60_000 });
  await eventually(() => socket.said.at(-1) === '"go"');
  // What never stops in spite of it is let go.
  for (let n = 0; n < 20; n += 1) socket.say("1", `{"text":"${kilobyte.repeat(1024)}"}`);
  assert.equal(socket.said.at(-1), '"leave"');
  tab.close();
  goes();
  leader.end("the test ends");
});

test("where the gateway takes us for somebody else than the others, we have a connection of our own", async () => {
  const client = connect(shared({ url: "http://gateway", token: "t", webSocket: HandSocket as unknown as typeof WebSocket }));
  await eventually(() => HandSocket.all.length === 1);
  const [first] = HandSocket.all as [HandSocket];
  assert.deepEqual(first.protocols, [LANES, "session-fabric.v1"]);
  first.open();
  assert.equal(JSON.parse(first.said.at(-1)!).token, "t");
  first.say("1", '"4414 the other lanes are another participant\'s"');
  await eventually(() => HandSocket.all.length === 2);
  assert.deepEqual(HandSocket.all[1]!.protocols, ["session-fabric.v1"]);
  client.close();
});

test("a closed client leaves nothing behind that keeps a process alive", async () => {
  const client = connect(shared({ url: "http://gateway", token: "t", webSocket: HandSocket as unknown as typeof WebSocket }));
  client.close();
  const another = connect(shared({ url: "http://gateway", token: "t", webSocket: HandSocket as unknown as typeof WebSocket }));
  await eventually(() => HandSocket.all.length === 1);
  another.close();
  assert.ok(HandSocket.all[0]!.closed);
});

test("a client that is sent away for good shares with nobody, and leads nobody", async () => {
  const client = connect(shared({ url: "http://gateway", token: "guessed", webSocket: HandSocket as unknown as typeof WebSocket }));
  await eventually(() => HandSocket.all.length === 1);
  const [socket] = HandSocket.all as [HandSocket];
  socket.open();
  socket.say("1", '"4501 unauthenticated"');
  assert.deepEqual([client.status.phase, client.status.transport], ["closed", "websocket"]);
  assert.ok(socket.closed);
});
