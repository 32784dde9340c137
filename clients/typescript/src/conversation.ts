import { Emitter } from "./emitter.js";
import type { FabricError } from "./errors.js";
import { Fold } from "./fold/fold.js";
import { ENDED, type Message, type Run } from "./fold/messages.js";
import type { Arrange, Siblings } from "./fold/tree.js";
import { newId } from "./ids.js";
import type { Session } from "./session.js";
import type { Stage, Subscription } from "./subscription.js";
import type { After, FabricEvent } from "./words.js";

export interface ConversationOptions {
  readonly after?: After | undefined;
  /** Be shown to the others as present, with this data. */
  readonly presence?: Readonly<Record<string, unknown>> | undefined;
  /** Of `@session-fabric/client/life`: have `path`, `siblings` and each message's `parent`, where there are branches. */
  readonly arrange?: Arrange | undefined;
}

/** A message of ours on its way: shown at once, behind everything that is in the log. */
export interface Sending {
  readonly id: string;
  readonly text: string;
  /** Null while it is on its way; else why it will not arrive. */
  readonly error: FabricError | null;
}

/** A session as people see it. Emits `change` at most once a frame of time, however fast tokens come. */
export class Conversation {
  private fold: Fold;
  private readonly emitter = new Emitter<{ change: Conversation; event: FabricEvent }>();
  private outgoing: readonly Sending[] = [];
  private subscription: Subscription | null;
  private readonly off: () => void;
  private scheduled = false;
  /** Why the session is over for us, if it is. */
  error: FabricError | null = null;

  constructor(
    readonly session: Session,
    options: ConversationOptions,
  ) {
    this.fold = new Fold(options.arrange);
    this.subscription = this.open(options);
    this.off = session.client.on("status", () => this.changed());
  }

  get messages(): readonly Message[] {
    return this.fold.messages;
  }

  /** The branch that is shown; all of `messages` where there are no branches, or no `arrange`. */
  get path(): readonly Message[] {
    return this.fold.path;
  }

  /** The alternatives of a message (edits, answers made anew), itself among them. */
  siblings(id: string): Siblings {
    return this.fold.siblings(id);
  }

  /** Ours that the log does not have yet, in the order of sending. */
  get sending(): readonly Sending[] {
    return this.outgoing;
  }

  get runs(): ReadonlyMap<string, Run> {
    return this.fold.runs;
  }

  get activeRuns(): readonly Run[] {
    return [...this.fold.runs.values()].filter(({ state }) => ENDED[state] === undefined);
  }

  get stage(): Stage {
    return this.error !== null ? "ended" : (this.subscription?.stage ?? "ended");
  }

  on(name: "change", listener: (conversation: Conversation) => void): () => void;
  on(name: "event", listener: (event: FabricEvent) => void): () => void;
  on(name: "change" | "event", listener: (value: never) => void): () => void {
    return this.emitter.on(name, listener as (value: Conversation | FabricEvent) => void);
  }

  /**
   * Say something. Shown at once in `sending`; resolves when the log has it; tried for as long as it takes. Said again
   * with the same id, by this page or after its reload, it is one message.
   */
  async send(text: string, id = newId("m")): Promise<void> {
    if (!this.fold.has(id)) await this.deliver({ id, text, error: null });
  }

  /** Try a message again that was refused. */
  async resend(id: string): Promise<void> {
    const failed = this.outgoing.find((message) => message.id === id);
    if (failed?.error) await this.deliver({ ...failed, error: null });
  }

  /** Stop what is running; what it has said stays. */
  async stop(): Promise<void> {
    await Promise.all(this.activeRuns.map(({ id }) => this.session.control("interrupt", id)));
  }

  close(): void {
    this.off();
    this.subscription?.close();
    this.subscription = null;
  }

  private open(options: ConversationOptions): Subscription {
    const ended = (error: FabricError): void => {
      if (error.code === "offset_gone") {
        // Retention has removed what we had been about to read: begin anew with what is left.
        this.fold = new Fold(options.arrange);
        this.subscription = this.open({ ...options, after: "start" });
      } else {
        this.error = error;
      }
      this.changed();
    };
    const changed = (): void => this.changed();
    return this.session.open({ events: (events) => this.take(events), live: changed, opened: changed, ended }, options);
  }

  private async deliver(message: Sending): Promise<void> {
    const { id, text } = message;
    this.put(message);
    try {
      // Of a session that was deleted an append would make another one, which this does not show.
      if (this.error) throw this.error;
      // The event's id follows from the message's, so that a message sent again is the same event.
      await this.session.append({ type: "message.user", message: { id, role: "user", content: text } }, { id });
    } catch (error) {
      this.put({ ...message, error: error as FabricError });
      throw error;
    }
  }

  private put(message: Sending): void {
    const others = this.outgoing.filter(({ id }) => id !== message.id);
    this.outgoing = this.fold.has(message.id) ? others : [...others, message];
    this.changed();
  }

  private take(events: readonly FabricEvent[]): void {
    for (const event of events) {
      this.fold.add(event);
      this.emitter.emit("event", event);
    }
    if (this.outgoing.length > 0) this.outgoing = this.outgoing.filter(({ id }) => !this.fold.has(id));
    this.changed();
  }

  /** Tell once for all that happens within a frame of time. */
  private changed(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    schedule(() => {
      this.scheduled = false;
      this.emitter.emit("change", this);
    });
  }
}

/** With the next painted frame where the page is seen. One that is hidden is painted never, and may be hidden before it is painted: soon enough then. */
function schedule(task: () => void): void {
  const { document, requestAnimationFrame } = globalThis as Partial<Window & typeof globalThis>;
  const seen = requestAnimationFrame && document?.visibilityState === "visible";
  const once = (): void => {
    task();
    task = () => undefined;
  };
  if (seen) requestAnimationFrame(once);
  setTimeout(once, seen ? 100 : 30);
}
