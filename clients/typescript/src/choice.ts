import type { Transport } from "./transports/transport.js";

/**
 * Which transport to try next. A rule.
 *
 * The first that can be had is kept for good once it has worked: a network that carried it carries it again. Until
 * then each gets two tries before the next one has its turn, round and round.
 */
export class Choice {
  private index = 0;
  private failures = 0;
  private settled = false;

  constructor(private readonly transports: readonly Transport[]) {
    if (transports.length === 0) throw new Error("no transport can be had on this machine");
  }

  get current(): Transport {
    return this.transports[this.index % this.transports.length] as Transport;
  }

  worked(): void {
    this.settled = true;
  }

  failed(): void {
    if (this.settled) return;
    this.failures += 1;
    if (this.failures % 2 === 0) this.index += 1;
  }
}
