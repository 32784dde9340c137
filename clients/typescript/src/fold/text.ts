import type { Offset } from "../words.js";

// A snapshot comes every 8 KiB of text, so more pieces than this will never join; what is dropped comes again with the
// snapshot or the completion.
const MAX_KEPT = 4_096;

/**
 * A text that arrives in pieces: out of order, twice, or not at all. Positions are `String.length`.
 *
 * Every method may be called again with the same arguments and changes nothing the second time.
 */
export class Text {
  private text = "";
  private done = false;
  private readonly kept = new Map<number, string>();
  private readonly loose = new Map<Offset, string>();

  /** The text so far: everything up to the first hole. */
  get value(): string {
    return this.text + [...this.loose.keys()].sort().map((offset) => this.loose.get(offset)).join("");
  }

  /** Add a piece at its position: cut where it overlaps, kept back where it leaves a hole. */
  put(at: number, piece: string): void {
    if (this.done) return;
    if (at > this.text.length) {
      if (this.kept.size < MAX_KEPT && piece.length > (this.kept.get(at)?.length ?? 0)) this.kept.set(at, piece);
      return;
    }
    this.text += piece.slice(this.text.length - at);
    this.takeKept();
  }

  /** Add a piece whose writer gave no position: behind the rest, in the order of the log. */
  putLoose(offset: Offset, piece: string): void {
    if (!this.done) this.loose.set(offset, piece);
  }

  /** Replace the text by a snapshot of it, if that knows more. */
  cover(text: string): void {
    if (this.done || text.length <= this.text.length) return;
    this.text = text;
    this.takeKept();
  }

  /** Replace the text by the whole of it; later pieces change nothing. */
  finish(text: string): void {
    this.text = text;
    this.done = true;
    this.kept.clear();
    this.loose.clear();
  }

  private takeKept(): void {
    for (const at of [...this.kept.keys()].sort((a, b) => a - b)) {
      if (at > this.text.length) break;
      this.text += (this.kept.get(at) ?? "").slice(this.text.length - at);
      this.kept.delete(at);
    }
  }
}
