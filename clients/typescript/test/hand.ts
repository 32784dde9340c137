import type { Clock } from "../src/clock.js";
import { connect, type Client, type ConnectOptions } from "../src/index.js";
import type { Transport, WireEvents } from "../src/transports/transport.js";
import type { ClientFrame, Frame } from "../src/words.js";

/** Time that passes when told to. */
export class HandClock implements Clock {
  time = 1_000_000;
  private readonly timers = new Set<{ at: number; task: () => void }>();

  now(): number {
    return this.time;
  }

  random(): number {
    return 0.5;
  }

  after(ms: number, task: () => void): () => void {
    const timer = { at: this.time + ms, task };
    this.timers.add(timer);
    return () => void this.timers.delete(timer);
  }

  /** Let time pass, timer by timer, and what they set off be done. */
  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    for (;;) {
      await settled();
      const next = [...this.timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.timers.delete(next);
      this.time = Math.max(this.time, next.at);
      next.task();
    }
    this.time = end;
    await settled();
  }
}

/** One dialled connection, whose other end is the test. */
export class HandWire {
  readonly sent: ClientFrame[] = [];
  closedWith: number | null = null;

  constructor(readonly events: WireEvents) {}

  send(frame: ClientFrame): void {
    this.sent.push(frame);
  }

  close(code: number): void {
    this.closedWith = code;
  }

  /** The last frame of this op that the client sent. */
  last<Op extends ClientFrame["op"]>(op: Op): Extract<ClientFrame, { op: Op }> {
    const found = this.sent.findLast((frame) => frame.op === op);
    if (found === undefined) throw new Error(`no ${op} was sent, but ${this.sent.map((frame) => frame.op).join(", ")}`);
    return found as Extract<ClientFrame, { op: Op }>;
  }

  count(op: ClientFrame["op"]): number {
    return this.sent.filter((frame) => frame.op === op).length;
  }

  say(...frames: Frame[]): void {
    for (const frame of frames) this.events.frame(frame);
  }

  welcome(limits = {}): void {
    this.events.opened();
    this.say({ op: "welcome", connection: "c1", participant: "user:ada", tenant: "default", heartbeat_s: 25, limits });
  }
}

/** A client on wires and a clock that the test holds. */
export class Hand {
  readonly clock = new HandClock();
  readonly wires: HandWire[] = [];
  readonly client: Client;

  constructor(options: ConnectOptions = {}) {
    const transport: Transport = {
      name: "hand",
      available: () => true,
      dial: (_target, events) => {
        const wire = new HandWire(events);
        this.wires.push(wire);
        return wire;
      },
    };
    this.client = connect({ url: "http://gateway", clock: this.clock, transports: [transport], ...options });
  }

  get wire(): HandWire {
    return this.wires.at(-1) as HandWire;
  }

  /** Wait for the dial, and welcome it. */
  async greet(): Promise<HandWire> {
    await settled();
    this.wire.welcome();
    await settled();
    return this.wire;
  }

  /** Answer the newest `open`. */
  opened(sub = 1, head: string | null = null): void {
    const { id, session } = this.wire.last("open");
    this.wire.say({ op: "opened", id: id as number, sub, head, session: { session } });
  }
}

/** Let everything that is ready be done. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
}
