import { Backoff } from "./backoff.js";
import type { Choice } from "./choice.js";
import type { Clock } from "./clock.js";
import { FabricError } from "./errors.js";
import { Heartbeat, type HeartbeatTimes } from "./heartbeat.js";
import { type Http, tokenOf } from "./http.js";
import type { Wire, WireEvents } from "./transports/transport.js";
import { type ClientFrame, EXPIRED, type Frame, GIVE_UP, type GatewayFrame, TOKEN_EXPIRED, UNHEARD } from "./words.js";

export type Phase = "connecting" | "live" | "reconnecting" | "closed";
export type Welcome = Extract<GatewayFrame, { op: "welcome" }>;
export type Token = string | undefined | (() => string | undefined | Promise<string | undefined>);

export interface ConnectionOwner {
  welcomed(welcome: Welcome): void;
  frame(frame: Frame): void;
  /** An answer is awaited: a silence then is found out sooner. */
  busy(): boolean;
  phase(phase: Phase, error: FabricError | null): void;
}

export interface ConnectionSettings {
  /** Where the gateway is, and as whom. */
  readonly http: Http;
  readonly hello: { device: string; client: string };
  readonly choice: Choice;
  readonly clock: Clock;
  readonly heartbeat: HeartbeatTimes;
}

/** How long dialling and greeting may take together. */
const GREET_MS = 5_000;
/** A connection that had lived this long was a good one: its end is no reason to wait long. */
const HELD_MS = 2_000;
const BEAT_MS = 500;

/** Keeps one connection to a gateway, again and again, until closed or sent away. Owns its timers and its wire. */
export class Connection {
  phase: Phase = "connecting";
  private wire: Wire | null = null;
  /** Events of a wire that was let go are told apart by its number. */
  private life = 0;
  private welcomedAt: number | null = null;
  private heartbeat: Heartbeat | null = null;
  private refusal: FabricError | null = null;
  private movedAt: number | null = null;
  /** Between two dials. */
  private waiting = false;
  private readonly timers = new Set<() => void>();
  private nextBeat: () => void = () => undefined;
  private readonly backoff = new Backoff();

  constructor(
    private readonly settings: ConnectionSettings,
    private readonly owner: ConnectionOwner,
  ) {}

  get transport(): string {
    return this.settings.choice.current.name;
  }

  start(): void {
    void this.dial();
  }

  /** Send on a live connection; a frame sent at another time is lost, and the owner sends again after `welcomed`. */
  send(frame: ClientFrame): void {
    if (this.phase === "live") this.wire?.send(frame);
  }

  /** The machine's network or our visibility changed: find out at once whether the connection is still there. */
  doubt(): void {
    if (this.phase === "closed") return;
    if (this.heartbeat !== null) {
      this.heartbeat.doubt();
      this.beat();
    } else if (this.waiting) {
      this.cancelTimers();
      void this.dial();
    }
  }

  close(): void {
    if (this.phase !== "closed") this.giveUp(null);
  }

  /** Replace the connection now: what it may have swallowed comes again on the next one. */
  drop(reason: string, delayMs?: number): void {
    if (this.phase === "closed") return;
    const { clock, choice } = this.settings;
    if (this.welcomedAt === null) {
      // Without a token nothing was tried.
      if (this.wire !== null) choice.failed();
    } else {
      choice.ended();
      if (clock.now() - this.welcomedAt >= HELD_MS) this.backoff.reset();
    }
    const { movedAt, refusal } = this;
    this.letGo(4000, reason);
    this.become(this.phase === "connecting" ? this.phase : "reconnecting", refusal);
    this.waiting = true;
    const wait = delayMs ?? (movedAt === null ? this.backoff.next(clock.random()) : Math.max(0, movedAt - clock.now()));
    this.later(wait, () => void this.dial());
  }

  private async dial(): Promise<void> {
    const { settings } = this;
    const life = ++this.life;
    this.waiting = false;
    this.later(GREET_MS, () => this.drop("no welcome"));
    let token: string | undefined;
    try {
      token = await tokenOf(settings.http.token);
    } catch (error) {
      if (life !== this.life) return;
      const why = error instanceof FabricError ? error : new FabricError("no_token", `No token: ${error}.`, true);
      if (!why.retryable) return this.giveUp(why);
      this.refusal = why;
      return this.drop("no wire");
    }
    if (life !== this.life) return;
    try {
      this.wire = settings.choice.current.dial({ url: settings.http.url, token }, this.eventsOf(life, token));
    } catch {
      settings.choice.failed();
      this.drop("no wire");
    }
  }

  /** What a wire says counts until it is let go. */
  private eventsOf(life: number, token: string | undefined): WireEvents {
    const hello: ClientFrame = { op: "hello", ...this.settings.hello, deltas: "compact", token };
    return {
      opened: () => life === this.life && this.wire?.send(hello),
      frame: (frame) => life === this.life && this.received(frame),
      closed: (code, reason) => life === this.life && this.closed(code, reason),
    };
  }

  private received(frame: Frame): void {
    this.heartbeat?.sign(this.settings.clock.now(), "op" in frame && frame.op === "pong");
    if ("op" in frame) {
      if (frame.op === "welcome") return this.welcomed(frame);
      if (frame.op === "error" && frame.id === undefined) this.refusal = FabricError.from(frame);
      if (frame.op === "moved") return this.moved(frame.after_ms);
    }
    this.owner.frame(frame);
  }

  private welcomed(welcome: Welcome): void {
    const { clock, choice, heartbeat } = this.settings;
    this.cancelTimers();
    const stay = choice.worked();
    if (stay !== null) this.later(stay, () => this.drop("better", 0));
    this.welcomedAt = clock.now();
    this.heartbeat = new Heartbeat(clock.now(), heartbeat);
    this.become("live", null);
    this.nextBeat = this.later(BEAT_MS, () => this.beat());
    this.owner.welcomed(welcome);
  }

  private moved(afterMs: number): void {
    const { clock } = this.settings;
    if (this.movedAt !== null) return;
    const wait = clock.random() * afterMs;
    this.movedAt = clock.now() + wait;
    this.later(wait, () => this.drop("moved", 0));
  }

  private beat(): void {
    if (this.heartbeat === null) return;
    const action = this.heartbeat.beat(this.settings.clock.now(), this.owner.busy());
    if (action === "drop") return this.drop("silence");
    if (action === "ping") this.wire?.send({ op: "ping", id: 0 });
    this.nextBeat();
    this.nextBeat = this.later(BEAT_MS, () => this.beat());
  }

  private closed(code: number, reason: string): void {
    if (code === UNHEARD) this.settings.choice.useless();
    const expired = code === TOKEN_EXPIRED;
    // A token that nobody can renew would be refused for ever.
    if (code < GIVE_UP && !(expired && typeof this.settings.http.token !== "function")) return this.drop(reason);
    this.giveUp(this.refusal ?? new FabricError(expired ? EXPIRED : "given_up", `The gateway closed for good (${code} ${reason}).`));
  }

  private giveUp(error: FabricError | null): void {
    this.letGo(1000, "closed");
    this.become("closed", error);
  }

  private letGo(code: number, reason: string): void {
    this.life += 1;
    this.waiting = false;
    this.cancelTimers();
    this.wire?.close(code, reason);
    this.wire = this.heartbeat = this.welcomedAt = this.movedAt = this.refusal = null;
  }

  private become(phase: Phase, error: FabricError | null): void {
    this.phase = phase;
    this.owner.phase(phase, error);
  }

  /** Every timer of ours goes when the wire goes. */
  private later(ms: number, task: () => void): () => void {
    const off = this.settings.clock.after(ms, () => {
      this.timers.delete(off);
      task();
    });
    this.timers.add(off);
    return () => {
      this.timers.delete(off);
      off();
    };
  }

  private cancelTimers(): void {
    for (const off of this.timers) off();
    this.timers.clear();
  }
}
