import { Choice } from "./choice.js";
import { type Clock, systemClock } from "./clock.js";
import { Connection, type ConnectionOwner, type Phase, type Token, type Welcome } from "./connection.js";
import { Emitter } from "./emitter.js";
import { FabricError } from "./errors.js";
import { Refs, textOf } from "./frames.js";
import { HEARTBEAT, type HeartbeatTimes } from "./heartbeat.js";
import { Http } from "./http.js";
import { newId } from "./ids.js";
import { watchMachine } from "./machine.js";
import { type Answer, Requests } from "./requests.js";
import { type Ambient, Session } from "./session.js";
import { type Handlers, type OpenOptions, Subscription } from "./subscription.js";
import type { Trace, TraceSource } from "./trace.js";
import { httpTransports } from "./transports/http.js";
import type { Transport } from "./transports/transport.js";
import { type WebSocketClass, webSocketTransport } from "./transports/websocket.js";
import { type ClientFrame, type FabricEvent, type Frame, type Refusal, type SessionRecord, VERSION } from "./words.js";

export interface ConnectOptions {
  /** Where the gateway is: `https://host`, `wss://host`; in a browser the page's own origin by default. */
  readonly url?: string | undefined;
  /** A token, or how to get one: asked again for each connection. */
  readonly token?: Token;
  /** This installation, the same over reloads. Made up by default. */
  readonly device?: string | undefined;
  /** For machines without a WebSocket of their own: the class of `ws`, say. */
  readonly webSocket?: WebSocketClass | undefined;
  /** In order of preference. Default: WebSocket, then server-sent events, then long polls. */
  readonly transports?: readonly Transport[] | undefined;
  /** What a call is part of: asked at each, and put on what is sent. With OpenTelemetry: docs/guides/observability.md. */
  readonly trace?: TraceSource | undefined;
  readonly heartbeat?: Partial<HeartbeatTimes> | undefined;
  readonly clock?: Clock | undefined;
}

export interface Status {
  readonly phase: Phase;
  /** False while the gateway has lost its broker: nothing is lost, but nothing comes either. */
  readonly broker: boolean;
  /** Why there will be no other connection, or with what the gateway refused the last one; null where it was lost. */
  readonly error: FabricError | null;
  readonly transport: string;
}

type Opened = Extract<Answer, { op: "opened" }>;

/** Connect to a gateway and stay connected. Returns at once; `client.status` and its event say how it goes. */
export function connect(options: ConnectOptions = {}): Client {
  return new Client(options);
}

export class Client implements ConnectionOwner {
  /** Our participant as the gateway knows us; null before the first welcome. */
  participant: string | null = null;
  readonly device: string;
  readonly http: Http;
  status: Status;
  private readonly emitter = new Emitter<{ status: Status; welcome: Welcome }>();
  private readonly connection: Connection;
  private readonly requests: Requests;
  private readonly sessionsByName = new Map<string, Session>();
  private readonly subscriptions = new Map<string, Subscription>();
  private readonly bySub = new Map<number, Subscription>();
  private refs = new Refs();
  private limits: Welcome["limits"] = {};
  private readonly unwatch: () => void;

  constructor(options: ConnectOptions) {
    const clock = options.clock ?? systemClock;
    this.device = options.device ?? newId("d");
    this.http = new Http(baseUrl(options.url), options.token, options.trace);
    const transports = options.transports ?? [webSocketTransport(options.webSocket), ...httpTransports()];
    this.connection = new Connection(
      {
        http: this.http,
        hello: { device: this.device, client: `session-fabric-js/${VERSION}` },
        choice: new Choice(transports.filter((transport) => transport.available())),
        clock,
        heartbeat: { ...HEARTBEAT, ...options.heartbeat },
      },
      this,
    );
    this.requests = new Requests((frame) => this.connection.send(frame), clock);
    this.status = { phase: "connecting", broker: true, error: null, transport: this.connection.transport };
    this.unwatch = watchMachine(() => this.connection.doubt());
    this.connection.start();
  }

  /** A session by name. No I/O: it is made by the first open or append. */
  session(name: string): Session {
    const session = this.sessionsByName.get(name) ?? new Session(name, this);
    this.sessionsByName.set(name, session);
    return session;
  }

  /** The sessions that we may read, the newest change first. */
  sessions(page: { limit?: number; cursor?: string } = {}): Promise<{ sessions: SessionRecord[]; next: string | null }> {
    return this.http.json("GET", "/v1/sessions", { query: page });
  }

  on(name: "status", listener: (status: Status) => void): () => void;
  on(name: "welcome", listener: (welcome: Welcome) => void): () => void;
  on(name: "status" | "welcome", listener: (value: never) => void): () => void {
    return this.emitter.on(name, listener as (value: Status | Welcome) => void);
  }

  /**
   * Prove who we are with a newer token before the old one expires, on the connection as it is. Where `token` is no
   * function, it takes the place of that for later connections too. Throws what the gateway has against it.
   */
  async refresh(token: string): Promise<void> {
    await this.ask(() => ({ op: "refresh", token }));
    if (typeof this.http.token !== "function") this.http.token = token;
  }

  /** Let go of everything. What has no answer yet fails with `closed`; it may or may not have been stored. */
  close(): void {
    this.connection.close();
  }

  // --- for sessions ---

  ask(build: (tries: number) => ClientFrame, signal?: AbortSignal, trace: Trace = this.http.trace()): Promise<Answer> {
    if (this.status.phase === "closed") return Promise.reject(this.why());
    return this.requests.ask((tries) => this.checked({ ...build(tries), trace }), signal);
  }

  /** Send what may be lost: not repeated, dropped when there is no connection. */
  tell(frame: ClientFrame): void {
    this.connection.send(frame);
  }

  open(session: string, options: OpenOptions, handlers: Handlers): Subscription {
    if (this.subscriptions.has(session)) {
      throw new FabricError("already_open", `This client has ${session} open: close or share it.`);
    }
    const subscription = new Subscription(session, options, handlers, (left) => this.left(left), this.session(session));
    this.subscriptions.set(session, subscription);
    if (this.status.phase === "live") this.opening(subscription);
    // Told, not thrown: a page that has been sent away may still show what it opens, and why it is over.
    if (this.status.phase === "closed") queueMicrotask(() => this.over(this.why()));
    return subscription;
  }

  // --- for the connection ---

  busy(): boolean {
    return this.requests.waiting;
  }

  welcomed(welcome: Welcome): void {
    this.participant = welcome.participant || null;
    this.limits = welcome.limits ?? {};
    this.refs = new Refs();
    this.update({ broker: true });
    this.requests.again();
    for (const subscription of this.subscriptions.values()) this.opening(subscription);
    this.emitter.emit("welcome", welcome);
  }

  phase(phase: Phase, error: FabricError | null): void {
    if (phase !== "live") {
      this.bySub.clear();
      for (const subscription of this.subscriptions.values()) subscription.disconnected();
    }
    this.update({ phase, error, transport: this.connection.transport });
    if (phase !== "closed") return;
    this.unwatch();
    this.over(this.why());
  }

  private opening(subscription: Subscription): void {
    subscription.forgetOpen();
    subscription.forgetOpen = this.requests.start(
      () => subscription.frame(),
      (given) => {
        const answer = given as Opened;
        if (subscription.stage === "ended") return this.tell({ op: "close", sub: answer.sub });
        this.bySub.set(answer.sub, subscription);
        subscription.opened(answer);
      },
      (error) => {
        if (subscription.stage === "ended") return;
        if (error.code === "already_open" && typeof error.facts["sub"] === "number") {
          // One that we left a moment ago and whose `close` had not arrived.
          this.tell({ op: "close", sub: error.facts["sub"] });
          return this.opening(subscription);
        }
        this.subscriptions.delete(subscription.session);
        subscription.ended(error);
      },
    );
  }

  private left(subscription: Subscription): void {
    this.subscriptions.delete(subscription.session);
    if (subscription.sub === null) return;
    this.bySub.delete(subscription.sub);
    this.refs.forget(subscription.sub);
    this.tell({ op: "close", sub: subscription.sub });
  }

  frame(frame: Frame): void {
    if (!("op" in frame)) {
      let events: FabricEvent[];
      try {
        events = this.refs.expand(frame);
      } catch {
        // Not to be read without what was announced before: a new connection announces it anew.
        return this.connection.drop("unreadable");
      }
      return this.bySub.get(frame[0])?.events(events);
    }
    switch (frame.op) {
      case "ref":
        return this.refs.announce(frame);
      case "events":
      case "live":
      case "mark":
      case "rewind":
        return this.bySub.get(frame.sub)?.received(frame);
      case "gone": {
        if (frame.sub === undefined) return this.ambient(frame.session, frame);
        const subscription = this.bySub.get(frame.sub);
        this.bySub.delete(frame.sub);
        if (subscription !== undefined) this.subscriptions.delete(subscription.session);
        return subscription?.received(frame);
      }
      case "signal":
      case "cursor":
      case "agent": {
        const subscription = this.bySub.get(frame.sub);
        return subscription && this.ambient(subscription.session, frame);
      }
      case "state":
        if (frame.id === undefined) return this.ambient(frame.session, frame);
        break;
      case "broker":
        return this.update({ broker: frame.connected });
    }
    this.requests.answer(frame as Answer | Refusal);
  }

  /** What is not of the log is told by the session to whom it may concern. */
  private ambient(session: string | undefined, frame: Ambient): void {
    this.sessionsByName.get(session ?? "")?.tell(frame.op, frame);
  }

  /** Why it is closed. */
  private why(): FabricError {
    return this.status.error ?? new FabricError("closed", "The client was closed.");
  }

  private over(error: FabricError): void {
    this.requests.end(error);
    const open = [...this.subscriptions.values()];
    this.subscriptions.clear();
    for (const subscription of open) subscription.ended(error);
  }

  private update(change: Partial<Status>): void {
    this.status = { ...this.status, ...change };
    this.emitter.emit("status", this.status);
  }

  private checked(frame: ClientFrame): ClientFrame {
    const limit = this.limits.max_frame_bytes;
    // Spelled here by every transport: what cannot be is refused, and breaks no connection on its way, time and again.
    const bytes = new TextEncoder().encode(textOf(frame)).length + 24; // 24: the request's id
    if (!(bytes > limit!)) return frame; // without a limit none is above it
    // The gateway would close the connection for good over such a frame.
    throw new FabricError("too_large", `The ${frame.op} takes ${bytes} bytes; the gateway takes ${limit}.`, false, "", { limit });
  }
}

function baseUrl(url: string | undefined): string {
  const given = `${url ?? (globalThis as { location?: Location }).location?.origin}`;
  if (!/^(http|ws|\/)/.test(given)) throw new FabricError("invalid_request", `The gateway's \`url\` is ${given}.`);
  return given.replace(/^ws/, "http").replace(/\/+$/, "");
}
