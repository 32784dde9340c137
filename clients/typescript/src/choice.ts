import type { Transport } from "./transports/transport.js";

const TRIES = 2;
const FIRST_UPGRADE_MS = 60_000;
const LAST_UPGRADE_MS = 3_600_000;

/**
 * Which transport to try next. A rule.
 *
 * The first is the best, and kept for good once it has worked: a network that carried it carries it again. Until then
 * each gets two tries before the next one has its turn, round and round. A lesser one that works is used until it ends
 * or for a while, and then the best gets another try: perhaps the gateway was only starting.
 */
export class Choice {
  private index = 0;
  private left = TRIES;
  private settled = false;
  private upgrade = FIRST_UPGRADE_MS;

  constructor(private readonly transports: readonly Transport[]) {
    if (transports.length === 0) throw new Error("no transport can be had on this machine");
  }

  get current(): Transport {
    return this.transports[this.index] as Transport;
  }

  /** It was welcomed: returns how long to stay before looking for a better one, or null for as long as it lasts. */
  worked(): number | null {
    if (this.index === 0) {
      this.settled = true;
      return null;
    }
    const stay = this.upgrade;
    this.upgrade = Math.min(this.upgrade * 2, LAST_UPGRADE_MS);
    return stay;
  }

  /** It ended after it had worked. */
  ended(): void {
    this.index = 0;
    this.left = 1;
  }

  /** It was not welcomed. */
  failed(): void {
    if (this.settled) return;
    this.left -= 1;
    if (this.left > 0) return;
    this.index = (this.index + 1) % this.transports.length;
    this.left = TRIES;
  }
}
