import type { Offset, RunState, Session } from "../index.js";

/** What becomes of messages while an agent is at work, and how long they wait for one. */
export interface PolicyFields {
  readonly when_busy?: "queue" | "concurrent" | "interrupt" | "steer" | "reject";
  /** Seconds, 1 to 86,400. */
  readonly answer_within_s?: number;
  /** Whether `when_busy` holds for messages too that say otherwise of themselves. */
  readonly strict?: boolean;
  readonly [field: string]: unknown;
}

export interface RunRecord {
  readonly id: string;
  readonly state: RunState;
  /** Who claimed it last. */
  readonly agent: string;
  /** The event that says so. */
  readonly since: Offset;
  readonly generation?: number;
  readonly pool?: string | null;
  /** The event that asked for it, and the user's message that it answers. */
  readonly input?: Offset | null;
  readonly message?: string | null;
  /** What it waits for while it is suspended. */
  readonly request?: string | null;
  /** Of a failed one what was said about it, and of which kind it is. */
  readonly error?: string | null;
  readonly code?: string | null;
  readonly [field: string]: unknown;
}

/** The session's policy: `set` changes what is named and returns all of it as it is then. It is followed as `session.policy` events. */
export function policy(session: Session): { set(fields: PolicyFields): Promise<PolicyFields> } {
  return {
    async set(fields) {
      const answer = await session.ask<{ policy: PolicyFields }>("policy", { policy: fields }, "PUT /policy");
      return answer.policy;
    },
  };
}

/** The session's runs as they are now, oldest first. */
export async function runs(session: Session): Promise<readonly RunRecord[]> {
  return (await session.ask<{ runs: RunRecord[] }>("runs", {}, "GET /runs")).runs;
}
