import type { Client } from "./client.js";
import { Conversation, type ConversationOptions } from "./conversation.js";
import { Emitter } from "./emitter.js";
import { FabricError } from "./errors.js";
import { newId } from "./ids.js";
import { isOffset } from "./position.js";
import { Queue } from "./queue.js";
import { aborted } from "./requests.js";
import type { Handlers, OpenOptions, Subscription } from "./subscription.js";
import type {
  AgentConnection, Appended, Body, ClientFrame, ControlAction, CursorMove, FabricEvent, GatewayFrame, Offset, OtherOp, Requested, SessionRecord, Signal, StatePush, Via,
} from "./words.js";

export interface FollowOptions extends OpenOptions {
  readonly signal?: AbortSignal | undefined;
  /** Ends the loop with `overflow` when so many events wait to be read; the error's `facts.after` is where to go on. */
  readonly maxQueued?: number | undefined;
}

export interface AppendOptions {
  /** The event's own id. Two appends of one id and body are one event. Made up by default. */
  readonly id?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ControlOptions {
  /** The request's own id, by which its outcome goes. Asked twice it is one request. Made up by default. */
  readonly id?: string | undefined;
  readonly body?: Readonly<Record<string, unknown>> | undefined;
  /** 1 to 600,000. Default: 5,000, and for a run that has not begun as long as its input may be answered. */
  readonly deadlineMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a session tells beside what its subscription's handlers are told. */
export interface SessionEvents {
  signal: Signal;
  cursor: CursorMove;
  /** The agent of a run has lost its connection, or has one again. */
  agent: AgentConnection;
  /** A watched document's value. */
  state: StatePush;
  /** Documents are not watched any more: the session was deleted. */
  gone: { readonly code: string; readonly message: string };
  /** The subscription's events, after its handlers had them. */
  events: readonly FabricEvent[];
  /** History is through; said again after each reconnect. */
  live: undefined;
  /** The subscription is over and will not come back. */
  ended: FabricError;
}

export type Ambient = Extract<GatewayFrame, { op: "signal" | "cursor" | "agent" | "state" }> | Extract<GatewayFrame, { op: "gone"; sub?: never }>;

/** One session as its client sees it. */
export class Session {
  private readonly emitter = new Emitter<SessionEvents>();
  private subscription: Subscription | null = null;
  private lastAppend: Promise<unknown> = Promise.resolve();

  constructor(
    readonly name: string,
    readonly client: Client,
  ) {}

  /** Whether it is open, with its history through. */
  get live(): boolean {
    return this.subscription?.stage === "live";
  }

  /** Open the session and be called with its events, over every reconnect, until closed. One at a time. */
  open(handlers: Handlers, options: OpenOptions = {}): Subscription {
    return (this.subscription = this.client.open(this.name, options, handlers));
  }

  /** Read the session's events from `after` on, then as they happen, for ever; each once. */
  follow(options: FollowOptions = {}): AsyncIterableIterator<FabricEvent> {
    const { signal, maxQueued = 100_000, ...open } = options;
    const leave = (): void => {
      subscription.close();
      signal?.removeEventListener("abort", abort);
    };
    const overflow = (): FabricError => {
      return new FabricError("overflow", `${maxQueued} events wait: go on at facts.after.`, true, "", { after: subscription.resume });
    };
    const queue = new Queue<FabricEvent>(maxQueued, overflow, leave);
    const abort = (): void => {
      queue.end(null);
      leave();
    };
    const subscription = this.open({ events: (events) => queue.push(events), ended: (error) => queue.end(error) }, open);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
    return queue;
  }

  /**
   * Write an event. Resolves when the log has it, however often the connection breaks meanwhile: it is sent again with
   * the same id, body and `since` until there is an answer. Events of one session are stored in the order of the calls.
   */
  append(body: Body | { readonly type: string }, { id, signal }: AppendOptions = {}): Promise<Appended> {
    // It waits for its turn, which is not to keep its caller.
    if (signal?.aborted) return Promise.reject(aborted());
    const event = { id: id ?? newId("e"), body: body as Body };
    const trace = this.client.http.trace();
    const stored = this.lastAppend.then(() => {
      const after = this.subscription?.resume;
      return this.client.ask(
        // `since` makes the gateway look for an earlier try, which the first try has no need of.
        (tries) => ({ op: "append", session: this.name, event, since: tries && isOffset(after) ? after : undefined }),
        signal,
        trace,
      );
    }).then(appended);
    this.lastAppend = stored.catch(() => undefined);
    return stored;
  }

  /** Ask a run to stop, or to take another way. Resolves when the request is in the log; what came of it is an event. */
  async control(action: ControlAction, run: string, options: ControlOptions = {}): Promise<Requested> {
    // One id for all tries: a request whose answer was lost is stored once.
    const { body, deadlineMs, id: event = newId("c"), signal } = options;
    const answer = await this.client.ask(
      () => ({
        op: "control",
        session: this.name,
        run,
        action,
        event,
        body,
        deadline_ms: deadlineMs,
      }),
      signal,
    );
    return { ...appended(answer), request: event };
  }

  /**
   * Have the gateway do one of its other operations, again after each cut until there is an answer; `via` is how HTTP
   * asks the same. `@session-fabric/client/life` has them by name.
   */
  async ask<Answer>(op: OtherOp, fields: Readonly<Record<string, unknown>> = {}, via?: Via, signal?: AbortSignal): Promise<Answer> {
    const frame = { ...fields, op, session: this.name, via } as ClientFrame;
    return (await this.client.ask(() => frame, signal)) as Answer;
  }

  /** Tell the others something that is not worth storing; it may be lost. */
  signal(body: Readonly<Record<string, unknown>>): void {
    this.client.tell({ op: "signal", session: this.name, body });
  }

  /** Say how far we have read. */
  async cursor(offset: Offset): Promise<void> {
    await this.client.ask(() => ({ op: "cursor", session: this.name, offset, device: this.client.device, via: "PUT /cursor" }));
  }

  /** The session's record. */
  record(): Promise<SessionRecord> {
    return this.client.http.json("GET", `/v1/sessions/${encodeURIComponent(this.name)}`);
  }

  /** The session as people see it: messages, tools, runs, who is there. Opens it. */
  conversation(options: ConversationOptions = {}): Conversation {
    return new Conversation(this, options);
  }

  /** Call `listener` for each; the returned function takes it away again. */
  on<Name extends keyof SessionEvents>(name: Name, listener: (value: SessionEvents[Name]) => void): () => void {
    return this.emitter.on(name, listener);
  }

  /** For the client: tell the listeners. */
  tell(name: keyof SessionEvents, value?: unknown): void {
    this.emitter.emit(name, value as never);
  }
}

/** What was stored, and where; not every way of asking says whether an earlier try had been. */
function appended(answer: object): Appended {
  const { offset, duplicate = false } = answer as Appended;
  return { offset, duplicate };
}
