import { Backoff } from "./backoff.js";
import type { Clock } from "./clock.js";
import { FabricError } from "./errors.js";
import type { ClientFrame, GatewayFrame, Refusal } from "./words.js";

export type Answer = Exclude<GatewayFrame, { op: "events" | "welcome" | "live" | "mark" | "error" }>;

interface Pending {
  /** Build the frame for the n-th try, counted from 0. */
  readonly build: (tries: number) => ClientFrame;
  readonly answered: (answer: Answer) => void;
  readonly refused: (error: FabricError) => void;
  readonly backoff: Backoff;
  tries: number;
}

/** So many questions may wait for an answer; further ones are refused with `limit_exceeded`. */
const MAX_PENDING = 1_000;

/**
 * Questions that wait for an answer. Each is asked again on every new connection, and after a refusal that says that a
 * retry can help, until it is answered or given up; so it must be one that may be asked twice.
 */
export class Requests {
  private next = 1;
  private readonly pending = new Map<number, Pending>();

  constructor(
    private readonly send: (frame: ClientFrame) => void,
    private readonly clock: Clock,
  ) {}

  get waiting(): boolean {
    return this.pending.size > 0;
  }

  /** Ask; the returned function forgets the question without an answer. */
  start(
    build: (tries: number) => ClientFrame,
    answered: (answer: Answer) => void,
    refused: (error: FabricError) => void,
  ): () => void {
    if (this.pending.size >= MAX_PENDING) {
      refused(new FabricError("limit_exceeded", `${MAX_PENDING} requests wait.`, true));
      return () => undefined;
    }
    const id = this.next++;
    this.pending.set(id, { build, answered, refused, backoff: new Backoff(200), tries: 0 });
    this.try(id);
    return () => void this.pending.delete(id);
  }

  ask(build: (tries: number) => ClientFrame, signal?: AbortSignal): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(aborted());
      // Before the question: that may be refused at once.
      const abort = (): void => (forget(), reject(aborted()));
      const done = <Value>(settle: (value: Value) => void) => (value: Value): void => {
        signal?.removeEventListener("abort", abort);
        settle(value);
      };
      const forget = this.start(build, done(resolve), done(reject));
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  /** A new connection is there: everything unanswered is asked again, in order. */
  again(): void {
    for (const id of [...this.pending.keys()]) this.try(id);
  }

  /** Hand an answer to whom it belongs, if it is anybody's. */
  answer(frame: Answer | Refusal): void {
    const { id } = frame as { id: number }; // what has none is nobody's
    const pending = this.pending.get(id);
    if (!pending) return;
    if (frame.op === "error" && frame.retryable) {
      this.clock.after(pending.backoff.next(this.clock.random()), () => this.try(id));
      return;
    }
    this.pending.delete(id);
    if (frame.op === "error") pending.refused(FabricError.from(frame));
    else pending.answered(frame);
  }

  /** Nothing will be answered any more. */
  end(error: FabricError): void {
    const all = [...this.pending.values()];
    this.pending.clear();
    for (const { refused } of all) refused(error);
  }

  private try(id: number): void {
    const pending = this.pending.get(id);
    if (!pending) return;
    let frame: ClientFrame;
    try {
      frame = pending.build(pending.tries++);
    } catch (error) {
      this.pending.delete(id);
      return pending.refused(error as FabricError);
    }
    // The id first: of a frame that it cannot read the gateway looks for it at the beginning.
    this.send({ id, ...frame } as ClientFrame);
  }
}

export function aborted(): FabricError {
  return new FabricError("aborted", "Called off by its signal.");
}
