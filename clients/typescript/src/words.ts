/** The words of docs/protocol.md: events, frames, codes. Data only. */

import type { Trace } from "./trace.js";

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

/** A request to a run that the log has. */
export interface Requested extends Appended {
  /** What its outcome goes by. */
  readonly request: string;
}

/** One device of a participant that has the session open. */
export interface Member {
  readonly participant: string;
  readonly device?: string | null;
  readonly data?: Readonly<Record<string, unknown>> | null;
  /** What it is busy with, in a word: `thinking`, `tool`, `waiting`, `idle`; null or missing where it says nothing. */
  readonly status?: string | null;
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

/** Whether the agent of a run has a connection. One without may be back within a moment; else the log says what becomes of the run. */
export interface AgentConnection {
  readonly run: string;
  readonly agent: string;
  readonly connected: boolean;
}

export interface SessionRecord {
  readonly session: string;
  /** Milliseconds since 1970. */
  readonly created?: number;
  readonly state?: string;
  /** Its newest event; over HTTP alone. */
  readonly head?: Offset;
  readonly labels?: Readonly<Record<string, string>>;
  /** The session that it is a fork of; null: none. */
  readonly source?: string | null;
  readonly policy?: Readonly<Record<string, unknown>>;
  readonly participants?: readonly string[];
  readonly [field: string]: unknown;
}

export interface Limits {
  readonly max_frame_bytes?: number;
  readonly max_body_bytes?: number;
  readonly max_subs?: number;
  readonly max_queued_bytes?: number;
  /** So much at a time, of what is limited: `operations`, `appends`, `bytes`, `opens`, `history`. */
  readonly rates?: Readonly<Record<string, { readonly per_s: number; readonly burst: number }>>;
}

export type View = "full" | "messages";
export type ControlAction = "cancel" | "interrupt" | "steer" | "redirect";

/** A shared document as it is pushed to those who watch it; a body of null: deleted. */
export interface StatePush {
  readonly op: "state";
  readonly session: string;
  readonly document: string;
  readonly revision: number;
  readonly body: Readonly<Record<string, unknown>> | null;
  readonly by: string | null;
  readonly ts: number | null;
}

/** Operations that the core has no more to do with than to carry them and their answers. */
export type OtherOp =
  | "who" | "presence" | "requests" | "claim" | "answer" | "policy" | "runs" | "participant.add" | "participant.remove" | "session.close" | "whisper" | "say" | "floor" | "floor.take" | "floor.return"
  | "handoff.offer" | "handoff.accept" | "handoff.decline"
  | "state.get" | "state.put" | "state.patch" | "state.delete" | "state.list" | "state.history" | "state.watch" | "state.unwatch";

/** How HTTP asks it, behind the session's path: `"POST /requests/{request}/claim"`. Fields not in the path are the body or the query. */
export type Via = `${"GET" | "POST" | "PUT" | "PATCH" | "DELETE"} /${string}`;

/** What a client may send. `id` is put on by the connection; what is undefined is left out. */
/** `trace` and `via` do not go over the socket by these names: see `textOf`. */
export type ClientFrame = { trace?: Trace | undefined } & (
  | { op: "hello"; token?: string | undefined; device?: string; client?: string; deltas?: "compact" }
  | { op: "open"; id?: number; session: string; after: After; view?: View | undefined; presence?: object | undefined }
  | { op: "append"; id?: number; session: string; event: { id: string; body: Body }; since?: Offset | undefined }
  | { op: "control"; id?: number; session: string; run: string; action: ControlAction; body?: object | undefined; deadline_ms?: number | undefined; event?: string }
  | { op: "signal"; session: string; body: object }
  | { op: "cursor"; id?: number; session: string; offset: Offset; device: string; via?: Via }
  | { [Op in OtherOp]: { op: Op; id?: number; session: string; via?: Via; readonly [field: string]: unknown } }[OtherOp]
  | { op: "close"; id?: number; sub: number }
  | { op: "ping"; id?: number }
  | { op: "refresh"; id?: number; token: string }
);

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
  | { op: "welcome"; connection: string; participant: string; tenant: string; heartbeat_s: number; server?: string; limits: Limits }
  | { op: "opened"; id: number; sub: number; head: Offset | null; session: SessionRecord }
  | { op: "events"; sub: number; events: readonly WireEvent[] }
  | { op: "ref"; sub: number; ref: number; segment: string; type: string; actor: string; run: string | null; message: string; at: number }
  | { op: "live"; sub: number }
  | { op: "mark"; sub: number; offset: Offset }
  | { op: "rewind"; sub: number; to: Offset }
  | { op: "gone"; sub: number; code: string; message: string; hint?: string }
  | { op: "gone"; sub?: never; session: string; code: string; message: string; hint?: string }
  | { op: "signal"; sub: number; actor: string; device: string | null; body: Record<string, unknown> }
  | { op: "cursor"; sub: number; actor: string; device: string | null; offset: Offset }
  | ({ op: "agent"; sub: number } & AgentConnection)
  | { op: "appended"; id: number; offset: Offset; duplicate: boolean; request?: string }
  | { op: "answered" | "claimed" | "requests" | "present" | "documents" | "history" | "floor" | "runs" | "session"; id: number; readonly [field: string]: unknown }
  | (Partial<StatePush> & { op: "state"; id?: number })
  | { op: "ok"; id: number; offset?: Offset; policy?: unknown }
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
/** The code of an error that says the same. */
export const EXPIRED = "token_expired";
/** The client's own: a stream of which nothing ever came. Something on the way keeps it back. */
export const UNHEARD = 1005;
export const SUBPROTOCOL = "session-fabric.v1";
export const VERSION = "0.1.0";
