export type Beat = "wait" | "ping" | "drop";

export interface HeartbeatTimes {
  /** Silence after which to ask: just after something came, or while an answer is awaited. */
  readonly busyMs: number;
  /** The same for a connection on which nothing has happened for long: the wait doubles up to this. */
  readonly idleMs: number;
  /** How long an answer may take before the connection counts as dead. */
  readonly patienceMs: number;
  /** The same after the machine said that its network changed. */
  readonly doubtMs: number;
}

export const HEARTBEAT: HeartbeatTimes = { busyMs: 2_000, idleMs: 15_000, patienceMs: 3_000, doubtMs: 1_500 };

/**
 * Decides when a silent connection is asked for a sign of life, and when it is dropped. A rule: time comes in.
 *
 * An open socket proves nothing: after the network has gone it stays open and silent for minutes.
 */
export class Heartbeat {
  private heard: number;
  private asked: number | null = null;
  private doubted = false;
  private wait: number;

  constructor(
    now: number,
    private readonly times: HeartbeatTimes = HEARTBEAT,
  ) {
    this.heard = now;
    this.wait = times.busyMs;
  }

  /** Something came in; `pong`: only the answer to our own question. */
  sign(now: number, pong: boolean): void {
    this.wait = pong ? Math.min(this.wait * 2, this.times.idleMs) : this.times.busyMs;
    this.heard = now;
    this.asked = null;
    this.doubted = false;
  }

  /** The network may have changed: ask at once, and be quick to give up. */
  doubt(): void {
    this.doubted = true;
  }

  beat(now: number, busy: boolean): Beat {
    const { busyMs, patienceMs, doubtMs } = this.times;
    if (this.asked !== null) return now - this.asked >= (this.doubted ? doubtMs : patienceMs) ? "drop" : "wait";
    if (!this.doubted && now - this.heard < (busy ? busyMs : this.wait)) return "wait";
    this.asked = now;
    return "ping";
  }
}
