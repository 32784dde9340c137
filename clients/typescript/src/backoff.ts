/**
 * How long to wait before the next try. A rule: `random` is a number in [0, 1).
 *
 * The first retry is quick, since most cuts are short; then it doubles with jitter up to the cap, so that a thousand
 * clients of a gateway that fell do not come back in one wave.
 */
export class Backoff {
  private tries = 0;

  constructor(
    private readonly firstMs = 100,
    private readonly capMs = 3_000,
  ) {}

  next(random: number): number {
    const ceiling = Math.min(this.capMs, this.firstMs * 2 ** this.tries++);
    return Math.round(ceiling * (0.5 + random / 2));
  }

  /** A connection held: the next failure is a first one again. */
  reset(): void {
    this.tries = 0;
  }
}
