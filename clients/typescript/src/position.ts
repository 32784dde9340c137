import type { After, FabricEvent, Offset } from "./words.js";

/** Neither "start" nor "tail": offsets begin with a digit. */
export const isOffset = (after: After | undefined): after is Offset => after! < "a";

/** More than a session's events between two of its marks. */
const KEPT = 2_000;

/**
 * Where a reader of one session stands: what it has had, and from where to resume.
 *
 * A rule: no I/O. After a `rewind` or a resume the gateway repeats events; each is let through once. What fills a
 * hole is let through when it comes, and is then older than what came before it.
 */
export class Position {
  /** From where to open again: everything up to here has been delivered, in order and without holes. */
  resume: After;
  /** What comes now is told as it happens: it may have holes until a mark covers it. */
  private live = false;
  /** Offsets that were let through: those above `resume`, and the last ones up to it. */
  private readonly had = new Set<Offset>();

  constructor(after: After) {
    this.resume = after;
  }

  opened(head: Offset | null): void {
    this.live = false;
    // From here on "tail" means what was the tail when we first looked, so that a resume misses nothing.
    if (this.resume === "tail" && head !== null) this.resume = head;
  }

  /** Return the events that have not been let through before. */
  take(events: readonly FabricEvent[]): FabricEvent[] {
    const fresh = events.filter(({ offset }) => !this.covered(offset) && !this.had.has(offset));
    for (const { offset } of fresh) this.had.add(offset);
    const last = events.at(-1);
    // History comes in order and whole, so that its last event is a place to resume from.
    if (last !== undefined && !this.live) this.settle(last.offset);
    return fresh;
  }

  wentLive(): void {
    this.live = true;
  }

  /** Everything up to here is there. What follows, be it what came before we were live, is not known to be whole. */
  mark(offset: Offset): void {
    this.live = true;
    this.settle(offset);
  }

  rewind(to: Offset): void {
    // Below a mark too: what one reader has read from the log may be missing to another, and comes to both.
    if (this.covered(to)) this.resume = to;
  }

  private covered(offset: Offset): boolean {
    return isOffset(this.resume) && offset <= this.resume;
  }

  private settle(offset: Offset): void {
    if (this.covered(offset)) return;
    this.resume = offset;
    for (const had of this.had) {
      if (this.had.size <= KEPT || had > offset) return;
      this.had.delete(had);
    }
  }
}
