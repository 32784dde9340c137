import type { After, FabricEvent, Offset } from "./words.js";

/**
 * Where a reader of one session stands: what it has had, and from where to resume.
 *
 * A rule: no I/O. After a `rewind` or a resume the gateway repeats events; each is let through once. What fills a
 * hole is let through when it comes, and is then older than what came before it.
 */
export class Position {
  /** Everything up to here has been delivered, in order and without holes. */
  verified: After;
  /** Live events have come that no mark covers yet: they may have holes between them. */
  private live = false;
  /** Offsets above `verified` that were let through. */
  private readonly had = new Set<Offset>();

  constructor(after: After) {
    this.verified = after;
  }

  /** From where to open again: nothing after it is known to be without holes. */
  get resume(): After {
    return this.verified;
  }

  opened(head: Offset | null): void {
    this.live = false;
    // From here on "tail" means what was the tail when we first looked, so that a resume misses nothing.
    if (this.verified === "tail" && head !== null) this.verified = head;
  }

  /** Return the events that have not been let through before. */
  take(events: readonly FabricEvent[]): FabricEvent[] {
    const fresh = events.filter(({ offset }) => !this.covered(offset) && !this.had.has(offset));
    for (const { offset } of fresh) this.had.add(offset);
    const last = events.at(-1);
    // History comes in order and whole, so that its last event is a place to resume from.
    if (last !== undefined && !this.live && !this.covered(last.offset)) this.settle(last.offset);
    return fresh;
  }

  wentLive(): void {
    this.live = true;
  }

  mark(offset: Offset): void {
    if (!this.covered(offset)) this.settle(offset);
  }

  rewind(to: Offset): void {
    // Below the last mark nothing should ever repeat; if it does, repeating is better than skipping.
    if (this.covered(to)) this.verified = to;
  }

  private covered(offset: Offset): boolean {
    return this.verified !== "start" && this.verified !== "tail" && offset <= this.verified;
  }

  private settle(offset: Offset): void {
    this.verified = offset;
    for (const had of this.had) if (had <= offset) this.had.delete(had);
  }
}
