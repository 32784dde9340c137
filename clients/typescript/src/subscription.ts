import { FabricError } from "./errors.js";
import { expand } from "./frames.js";
import { Position } from "./position.js";
import type { After, ClientFrame, FabricEvent, GatewayFrame, Offset, SessionRecord, View } from "./words.js";

export interface OpenOptions {
  /** Default `"start"`. */
  readonly after?: After | undefined;
  /** `"messages"` leaves out what a list of messages does not need. Default `"full"`. */
  readonly view?: View | undefined;
  /** Be shown to the others as present, with this data, for as long as the session is open. */
  readonly presence?: Readonly<Record<string, unknown>> | undefined;
}

export interface Handlers {
  /** New events, each once. What a rewind brings late is older than what came before it. */
  events(events: readonly FabricEvent[]): void;
  /** History is through (said again after each reconnect). */
  live?(): void;
  /** The session was opened, or opened again. */
  opened?(record: SessionRecord, head: Offset | null): void;
  /** A hole was found; what was missed follows. */
  rewind?(to: Offset): void;
  /** Everything up to here has been delivered: keep it, and `after` it nothing is missed or repeated. */
  mark?(offset: Offset): void;
  /** It is over and will not come back. Not called after `close()`. */
  ended?(error: FabricError): void;
}

export type Stage = "opening" | "catching-up" | "live" | "ended";

/** Hears what the handlers hear, so that what belongs to the session needs no subscription of its own. */
export interface Listening {
  tell(name: "events", events: readonly FabricEvent[]): void;
  tell(name: "live"): void;
  tell(name: "ended", error: FabricError): void;
}

/** One open session: goes from connection to connection, and delivers each event once. */
export class Subscription {
  stage: Stage = "opening";
  /** The gateway's number for it on this connection. */
  sub: number | null = null;
  /** Forgets an `open` that has no answer yet. */
  forgetOpen: () => void = () => undefined;
  private position: Position;

  constructor(
    readonly session: string,
    private readonly options: OpenOptions,
    private handlers: Partial<Handlers>,
    private readonly leave: (subscription: Subscription) => void,
    private readonly listening: Listening,
  ) {
    this.position = new Position(options.after ?? "start");
  }

  /** From where another reader would go on without missing anything. */
  get resume(): After {
    return this.position.resume;
  }

  close(): void {
    if (this.stage === "ended") return;
    this.end();
    this.leave(this);
  }

  // --- called by the client ---

  frame(): ClientFrame {
    const { view, presence } = this.options;
    return { op: "open", session: this.session, after: this.position.resume, view, presence };
  }

  opened(frame: Extract<GatewayFrame, { op: "opened" }>): void {
    this.sub = frame.sub;
    this.stage = "catching-up";
    this.position.opened(frame.head);
    this.handlers.opened?.(frame.session, frame.head);
  }

  disconnected(): void {
    this.forgetOpen();
    this.sub = null;
    if (this.stage !== "ended") this.stage = "opening";
  }

  events(events: readonly FabricEvent[]): void {
    if (this.stage === "ended") return;
    const fresh = this.position.take(events);
    if (fresh.length === 0) return;
    this.handlers.events?.(fresh);
    this.listening.tell("events", fresh);
  }

  received(frame: Extract<GatewayFrame, { op: "events" | "live" | "mark" | "rewind" | "gone"; sub: number }>): void {
    if (this.stage === "ended") return;
    switch (frame.op) {
      case "events":
        return this.events(expand(frame.events));
      case "live":
        this.stage = "live";
        this.position.wentLive();
        this.handlers.live?.();
        return this.listening.tell("live");
      case "mark":
        this.position.mark(frame.offset);
        return this.handlers.mark?.(frame.offset);
      case "rewind":
        this.position.rewind(frame.to);
        return this.handlers.rewind?.(frame.to);
      case "gone":
        return this.ended(new FabricError(frame.code, frame.message));
    }
  }

  ended(error: FabricError): void {
    if (this.stage === "ended") return;
    const { handlers } = this;
    this.end();
    handlers.ended?.(error);
    this.listening.tell("ended", error);
  }

  /** A session keeps it for where it was, and is not to keep all that it told. */
  private end(): void {
    this.stage = "ended";
    this.handlers = {};
    this.position = new Position(this.resume);
  }
}
