import type { FabricEvent, Offset } from "../words.js";
import { Text } from "./text.js";

export type RunState = "claimed" | "running" | "suspended" | "completed" | "cancelled" | "failed" | "orphaned";
export type MessageStatus = "open" | "completed" | "interrupted" | "failed";
export type Delivery = "steered" | "rejected" | "expired";

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
  /** The message that it follows; null at the beginning, undefined where nobody has arranged them, and of those superseded. */
  readonly parent: string | null | undefined;
  /** What became of a user's message that got no run of its own. */
  readonly delivery: Delivery | null;
  /** What it said was removed. */
  readonly redacted: boolean;
}

export interface Run {
  readonly id: string;
  readonly state: RunState;
  /** Who claimed it last. */
  readonly agent: string;
  /** Its newest event. */
  readonly since: Offset;
  /** 1, and one more with each process that has taken it over. */
  readonly generation: number;
  readonly pool: string | null;
  /** The event that asked for it, and the user's message that it answers. */
  readonly input: Offset | null;
  readonly message: string | null;
  /** What it waits for while it is suspended. */
  readonly request: string | null;
  /** Of a failed run: what its writer said about it, and of which kind it is. */
  readonly error: string | null;
  readonly code: string | null;
}

/** What a run that has ended makes of the messages that it has not completed; those of the others are open. */
export const ENDED: Readonly<Partial<Record<RunState, MessageStatus>>> = {
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
  /** Of the first event and the newest; nothing comes behind the one or before the other as they are here. */
  first = "~";
  last = "";
  actor!: string;
  run!: string | null;
  ts: number | null = null;
  role = "";
  readonly text = new Text();
  parts: unknown = null;
  /** Its parent, where its author named one. */
  named: string | null | undefined;
  readonly reasoning = new Text();
  /** Reasoning events name it. */
  thinks = false;
  done: Offset | null = null;
  /** Tool calls as the completion lists them. */
  listed: string[] | null = null;
  /** Tool calls by their own start. */
  readonly attached = new Map<string, Offset>();
  /** Where it was said that its content was removed. */
  redacted: Offset | undefined;

  /** `said`: by `message.user`, so not a run's to change. */
  constructor(
    readonly id: string,
    event: FabricEvent,
    readonly said: boolean,
  ) {
    this.touch(event);
  }

  /** Whether an event may write into it: of its run; without one, of the participant who said it. */
  isOf(event: FabricEvent, said: boolean): boolean {
    return this.said === said && (this.run || this.actor) === (event.run || event.actor);
  }

  touch(event: FabricEvent): void {
    if (event.offset < this.first) {
      this.first = event.offset;
      this.actor = event.actor;
      this.run = event.run;
      this.ts = event.ts ?? this.ts;
    }
    if (event.offset > this.last) this.last = event.offset;
  }

  /** Take the offset of the first event that named it, which may be gone with its deltas. */
  begin(began: unknown): void {
    if (typeof began === "string" && OFFSET.test(began) && began < this.first) this.first = began;
  }

  callIds(): string[] {
    const { attached, done, listed } = this;
    const byOffset = [...attached].sort(([, a], [, b]) => (a < b ? -1 : 1));
    const ids = byOffset.map(([id]) => id);
    if (listed === null || done === null) return ids;
    return [...listed, ...ids.filter((id) => (attached.get(id) as Offset) > done && !listed.includes(id))];
  }
}
