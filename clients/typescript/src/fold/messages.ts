import type { FabricEvent, Offset } from "../words.js";
import { Text } from "./text.js";

export type RunState = "claimed" | "running" | "completed" | "cancelled" | "failed" | "orphaned";
export type MessageStatus = "open" | "completed" | "interrupted" | "failed";

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** JSON text, perhaps not all of it yet. */
  readonly args: string;
  /** Null while there is none. */
  readonly result: unknown;
}

/** A message as far as it is known. Never changed: a newer state is a new object. */
export interface Message {
  readonly id: string;
  readonly role: string;
  readonly actor: string;
  readonly run: string | null;
  /** Text, or AG-UI's list of parts. */
  readonly content: unknown;
  readonly reasoning: string;
  readonly toolCalls: readonly ToolCall[];
  readonly status: MessageStatus;
  /** The first and the newest event that name it. */
  readonly first: Offset;
  readonly last: Offset;
  /** When its first event was stored, if that was said. */
  readonly ts: number | null;
}

export interface Run {
  readonly id: string;
  readonly state: RunState;
  /** Who claimed it last. */
  readonly agent: string;
  /** The event that says so. */
  readonly since: Offset;
  /** Of a failed run: what its writer said about it. */
  readonly error: string | null;
}

export const STATUS: Readonly<Record<RunState, MessageStatus>> = {
  claimed: "open",
  running: "open",
  completed: "completed",
  cancelled: "interrupted",
  orphaned: "interrupted",
  failed: "failed",
};

const OFFSET = /^\d{16}_\d{16}$/;

/** A tool call in the making: its events need not come after the one that names its message. */
export class GrowingCall {
  name = "";
  readonly args = new Text();
  result: unknown = null;
  resultAt: Offset | null = null;
  /** The messages that show it. */
  readonly owners = new Set<string>();

  constructor(readonly id: string) {}
}

/** A message in the making. */
export class GrowingMessage {
  first: Offset;
  last: Offset;
  actor: string;
  run: string | null;
  ts: number | null;
  role = "";
  readonly text = new Text();
  parts: unknown = null;
  readonly reasoning = new Text();
  /** Reasoning events name it. */
  thinks = false;
  done: Offset | null = null;
  /** Tool calls as the completion lists them. */
  listed: string[] | null = null;
  /** Tool calls by their own start. */
  readonly attached = new Map<string, Offset>();

  /** `said`: by `message.user`, so not a run's to change. */
  constructor(
    readonly id: string,
    event: FabricEvent,
    readonly said: boolean,
  ) {
    this.first = this.last = event.offset;
    this.actor = event.actor;
    this.run = event.run;
    this.ts = event.ts ?? null;
  }

  touch(event: FabricEvent): void {
    if (event.offset < this.first) {
      this.first = event.offset;
      this.actor = event.actor;
      this.run = event.run;
      this.ts = event.ts ?? this.ts;
    } else if (event.offset > this.last) {
      this.last = event.offset;
    }
  }

  /** Take the offset of the first event that named it, which may be gone with its deltas; true if that is news. */
  begin(began: unknown): boolean {
    if (typeof began !== "string" || !OFFSET.test(began) || began >= this.first) return false;
    this.first = began;
    return true;
  }

  callIds(): string[] {
    const { attached, done, listed } = this;
    const byOffset = [...attached].sort(([, a], [, b]) => (a < b ? -1 : 1));
    const ids = byOffset.map(([id]) => id);
    if (listed === null || done === null) return ids;
    return [...listed, ...ids.filter((id) => (attached.get(id) as Offset) > done && !listed.includes(id))];
  }
}
