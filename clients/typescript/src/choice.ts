import type { Transport } from "./transports/transport.js";

const TRIES = 2;
/** Of the best, once it has worked: a gateway that is away for some seconds is no reason to do with less. */
const TRUST = 6;
const FIRST_UPGRADE_MS = 60_000;
const LAST_UPGRADE_MS = 3_600_000;

/**
 * Which transport to try next. A rule.
 *
 * The first is the best: once it has worked it gets six tries before the next one has its turn, since a network that
 * carried it carries it again, unless we have moved to another one. All others get two, round and round. A lesser one
 * that works is used until it ends or for a while, and then the best gets another try: perhaps the gateway was only
 * starting.
 */
export class Choice {
  private index = 0;
  private left = TRIES;
  private upgrade = FIRST_UPGRADE_MS;

  constructor(private transports: readonly Transport[]) {
    if (transports.length === 0) throw new Error("no transport");
  }

  get current(): Transport {
    return this.transports[this.index] as Transport;
  }

  /** It was welcomed: returns how long to stay before looking for a better one, or null for as long as it lasts. */
  worked(): number | null {
    if (this.index === 0) {
      this.left = TRUST;
      return null;
    }
    const stay = this.upgrade;
    this.upgrade = Math.min(this.upgrade * 2, LAST_UPGRADE_MS);
    return stay;
  }

  /** It ended after it had worked. */
  ended(): void {
    if (this.index === 0) return;
    this.index = 0;
    this.left = 1;
  }

  /** It was welcomed and carries nothing all the same: not to be tried again. */
  useless(): void {
    const { current, transports } = this;
    if (transports.length > 1) this.transports = transports.filter((one) => one !== current);
  }

  /** It was not welcomed. */
  failed(): void {
    if (--this.left > 0) return;
    this.index = (this.index + 1) % this.transports.length;
    this.left = TRIES;
  }
}
