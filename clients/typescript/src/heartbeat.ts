export type Beat = "wait" | "ping" | "drop";

export interface HeartbeatTimes {
  /** Silence after which to ask, while nothing is awaited. */
  readonly idleMs: number;
  /** The same while an answer is awaited. */
  readonly busyMs: number;
  /** How long an answer may take before the connection counts as dead. */
  readonly patienceMs: number;
  /** The same after the machine said that its network changed. */
  readonly doubtMs: number;
}

export const HEARTBEAT: HeartbeatTimes = { idleMs: 8_000, busyMs: 2_000, patienceMs: 4_000, doubtMs: 1_500 };

/**
 * Decides when a silent connection is asked for a sign of life, and when it is dropped. A rule: time comes in.
 *
 * An open socket proves nothing: after the network has gone it stays open and silent for minutes.
 */
export class Heartbeat {
  private heard: number;
  private asked: number | null = null;
  private doubted = false;

  constructor(
    now: number,
    private readonly times: HeartbeatTimes = HEARTBEAT,
  ) {
    this.heard = now;
  }

  /** Anything at all came in. */
  sign(now: number): void {
    this.heard = now;
    this.asked = null;
    this.doubted = false;
  }

  /** The network may have changed: ask at once, and be quick to give up. */
  doubt(): void {
    this.doubted = true;
  }

  beat(now: number, busy: boolean): Beat {
    if (this.asked !== null) {
      return now - this.asked >= (this.doubted ? this.times.doubtMs : this.times.patienceMs) ? "drop" : "wait";
    }
    if (!this.doubted && now - this.heard < (busy ? this.times.busyMs : this.times.idleMs)) return "wait";
    this.asked = now;
    return "ping";
  }
}
