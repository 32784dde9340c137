/** The words of docs/protocol.md: events, frames, codes. Data only. */

/** `<segment>_<sequence>`, sixteen digits each; sorts as text, opaque otherwise. */
export type Offset = string;

/** Where to begin: an offset, all there is, or only what happens from now on. */
export type After = Offset | "start" | "tail";

export interface Body {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** One entry of a session's log. */
export interface FabricEvent {
  readonly offset: Offset;
  readonly type: string;
  readonly actor: string;
  readonly run: string | null;
  readonly body: Body;
  /** Left out of deltas. */
  readonly id?: string;
  /** Milliseconds since 1970 by the broker's clock; left out of compact deltas. */
  readonly ts?: number;
  /** Of deltas: where the text begins, in UTF-16 code units (`String.length`). */
  readonly at?: number;
}

export interface Appended {
  readonly offset: Offset;
  /** True when an earlier try of the same id had been stored. */
  readonly duplicate: boolean;
}

/** One device of a participant that has the session open. */
export interface Member {
  readonly participant: string;
  readonly device?: string | null;
  readonly data?: Readonly<Record<string, unknown>> | null;
  readonly since?: number;
}

/** Ambient: never stored, may be dropped. */
export interface Signal {
  readonly actor: string;
  readonly device: string | null;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface CursorMove {
  readonly actor: string;
  readonly device: string | null;
  readonly offset: Offset;
}

export interface SessionRecord {
  readonly session: string;
  readonly created?: number;
  readonly state?: string;
  readonly head?: Offset;
  readonly labels?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

export interface Limits {
  readonly max_frame_bytes?: number;
  readonly max_body_bytes?: number;
  readonly max_subs?: number;
  readonly max_queued_bytes?: number;
}

export type View = "full" | "messages";
export type ControlAction = "cancel" | "interrupt";

/** What a client may send. `id` is put on by the connection. */
export type ClientFrame =
  | { op: "hello"; token?: string; device?: string; client?: string; deltas?: "compact" }
  | { op: "open"; id?: number; session: string; after: After; view?: View; presence?: object }
  | { op: "append"; id?: number; session: string; event: { id: string; body: Body }; since?: Offset }
  | { op: "control"; id?: number; session: string; run: string; action: ControlAction; body?: object; deadline_ms?: number; event?: string }
  | { op: "who"; id?: number; session: string }
  | { op: "signal"; session: string; body: object }
  | { op: "cursor"; id?: number; session: string; offset: Offset }
  | { op: "close"; id?: number; sub: number }
  | { op: "ping"; id?: number }
  | { op: "refresh"; id?: number; token: string };

/** An event as a frame carries it: what equals the event before it may be missing. */
export type WireEvent = Partial<FabricEvent> & Pick<FabricEvent, "offset" | "body">;

export interface Refusal {
  readonly op: "error";
  readonly id?: number;
  readonly code: string;
  readonly message: string;
  readonly retryable?: boolean;
  readonly hint?: string;
  readonly [fact: string]: unknown;
}

/** What the gateway sends, apart from compact deltas. */
export type GatewayFrame =
  | { op: "welcome"; connection: string; participant: string; tenant: string; heartbeat_s: number; limits: Limits }
  | { op: "opened"; id: number; sub: number; head: Offset | null; session: SessionRecord }
  | { op: "events"; sub: number; events: readonly WireEvent[] }
  | { op: "ref"; sub: number; ref: number; segment: string; type: string; actor: string; run: string | null; message: string; at: number }
  | { op: "live"; sub: number }
  | { op: "mark"; sub: number; offset: Offset }
  | { op: "rewind"; sub: number; to: Offset }
  | { op: "gone"; sub: number; code: string; message: string }
  | { op: "signal"; sub: number; actor: string; device: string | null; body: Record<string, unknown> }
  | { op: "cursor"; sub: number; actor: string; device: string | null; offset: Offset }
  | { op: "appended"; id: number; offset: Offset; duplicate: boolean }
  | { op: "present"; id: number; members: readonly Member[] }
  | { op: "ok"; id: number }
  | { op: "closed"; id?: number; sub: number }
  | { op: "pong"; id?: number }
  | { op: "broker"; connected: boolean }
  | { op: "moved"; after_ms: number }
  | Refusal;

/** `[sub, ref, sequence, text, ref, sequence, text, …]` */
export type CompactDeltas = readonly [number, ...(number | string)[]];

export type Frame = GatewayFrame | CompactDeltas;

/** From this close code on the client gives up; below it reconnects and resumes. */
export const GIVE_UP = 4500;
export const TOKEN_EXPIRED = 4410;
export const SUBPROTOCOL = "session-fabric.v1";
export const VERSION = "0.1.0";
