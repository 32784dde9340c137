// Whatever the gateway is allowed to do, a follower gets every event once, and its text is whole.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fold } from "../src/fold/fold.js";
import type { FabricEvent } from "../src/index.js";
import { Hand } from "./hand.js";
import { offset } from "./make.js";

/** A generator of numbers in [0, 1), the same for the same seed. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const PIECE = "a😀b";

function piece(n: number): FabricEvent {
  const body = { type: "TEXT_MESSAGE_CONTENT", messageId: "m1", delta: `${PIECE}${n % 10}` };
  return { offset: offset(n), type: body.type, actor: "agent:w", run: "r1", ts: n, at: (n - 1) * (PIECE.length + 1), body };
}

/** A session as a gateway serves it: the live path loses events, checks find out, connections break. */
async function ordeal(seed: number): Promise<void> {
  const random = chance(seed);
  const hand = new Hand();
  const got: number[] = [];
  const fold = new Fold();
  hand.client.session("chat").open({
    events: (events) => {
      for (const event of events) {
        got.push(Number(event.offset.slice(17)));
        fold.add(event);
      }
    },
  });
  let head = 0;
  let sub = 0;
  let verified = 0;
  let sent = 0;
  let holes = false;

  const send = (from: number, to: number) => {
    const events = Array.from({ length: Math.max(0, to - from) }, (_, n) => piece(from + 1 + n));
    if (events.length === 0) return;
    if (random() < 0.5) return hand.wire.say({ op: "events", sub, events });
    const first = events[0]!;
    hand.wire.say({ op: "ref", sub, ref: 1, segment: first.offset.slice(0, 16), type: first.type, actor: first.actor, run: first.run, message: "m1", at: first.at! });
    hand.wire.say([sub, ...events.flatMap((event) => [1, Number(event.offset.slice(17)), event.body["delta"] as string])]);
  };

  const breakOff = async (): Promise<void> => {
    hand.wire.events.closed(1006, "");
    await hand.clock.pass(3_000);
    await connect();
  };

  const connect = async (): Promise<void> => {
    await hand.greet();
    const { after } = hand.wire.last("open");
    const from = after === "start" ? 0 : Number(after.slice(17));
    sub += 1 + Math.floor(random() * 3);
    hand.opened(sub, offset(head));
    const cut = from + Math.floor(random() * (head - from + 1));
    send(from, cut);
    if (random() < 0.2) return breakOff();
    send(cut, head);
    hand.wire.say({ op: "live", sub });
    [verified, sent, holes] = [head, head, false];
    if (random() < 0.7) hand.wire.say({ op: "mark", sub, offset: offset(verified) });
  };

  const check = () => {
    if (holes || sent < head) {
      hand.wire.say({ op: "rewind", sub, to: offset(verified) });
      send(verified, head);
    }
    [verified, sent, holes] = [head, head, false];
    hand.wire.say({ op: "mark", sub, offset: offset(verified) });
  };

  await connect();
  for (let step = 0; step < 60; step += 1) {
    const dice = random();
    if (dice < 0.6) {
      const more = 1 + Math.floor(random() * 3);
      const lost = random() < 0.2;
      if (!lost) send(head, head + more);
      head += more;
      if (lost) holes = true;
      else sent = head;
    } else if (dice < 0.8) {
      check();
    } else {
      await breakOff();
    }
  }
  check();
  hand.client.close();
  assert.deepEqual([...got].sort((a, b) => a - b), Array.from({ length: head }, (_, n) => n + 1), `seed ${seed}: each once`);
  const wanted = Array.from({ length: head }, (_, n) => `${PIECE}${(n + 1) % 10}`).join("");
  assert.equal(fold.messages[0]?.content ?? "", wanted, `seed ${seed}: the whole text`);
}

test("over any losses, rewinds and reconnects every event is delivered once and the text is whole", async () => {
  for (let seed = 1; seed <= 300; seed += 1) await ordeal(seed);
});
