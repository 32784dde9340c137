import { type Appended, FabricError, type FabricEvent, newId, type Offset, type Requested, type Session } from "../index.js";

/** What became of a request to a run. */
export interface Outcome {
  readonly outcome: "accepted" | "rejected" | "expired";
  readonly request: string;
  readonly action: string;
  readonly run: string;
  /** Why not: `unsupported`, `the run is ending`, `deadline`, `too many wait`. */
  readonly reason: string | null;
  readonly offset: Offset;
}

/**
 * Wait for what becomes of a control request: of the answer of `session.control(…)`, or of an id that will be used
 * for one. There is always an outcome, at the deadline at the latest. The session must be open.
 */
export function outcomeOf(session: Session, request: Requested | string, signal?: AbortSignal): Promise<Outcome> {
  const id = typeof request === "string" ? request : request.request;
  return new Promise((resolve, reject) => {
    const offs: (() => void)[] = [];
    const end = (settle: () => void): void => {
      for (const off of offs.splice(0)) off();
      settle();
    };
    const look = (events: readonly FabricEvent[]): boolean => {
      const found = events.find(({ type, body }) => /^control\.(accepted|rejected|expired)$/.test(type) && body["request"] === id);
      if (found !== undefined) end(() => resolve(outcome(id, found)));
      return found !== undefined;
    };
    const aborted = (): void => end(() => reject(new FabricError("aborted", "The caller's signal called this off.")));
    offs.push(
      session.on("events", look),
      session.on("ended", (error) => end(() => reject(error))),
      session.client.on("status", ({ phase, error }) => {
        if (phase === "closed") end(() => reject(error ?? new FabricError("closed", "The client was closed.")));
      }),
      () => signal?.removeEventListener("abort", aborted),
    );
    signal?.addEventListener("abort", aborted);
    if (signal?.aborted) return aborted();
    // It may have come before we listened.
    if (typeof request !== "string") void earlier(session, request.offset, () => offs.length > 0, look).catch(() => undefined);
  });
}

/**
 * Tell the session's agents something that users do not see: one run, or all that are under way and later ones. For
 * operators and supervisors. Said again with the same id it is said once.
 */
export function whisper(session: Session, text: string, options: { readonly run?: string; readonly id?: string } = {}): Promise<Appended> {
  const { run, id = newId("w") } = options;
  return session.ask("whisper", { text, run, event: id }, "POST /whispers");
}

async function earlier(session: Session, from: Offset, wanted: () => boolean, look: (events: readonly FabricEvent[]) => boolean): Promise<void> {
  const path = `/v1/sessions/${encodeURIComponent(session.name)}/events`;
  for (let after = from; wanted(); ) {
    const { events, next } = await session.client.http.json<{ events: FabricEvent[]; next: Offset }>("GET", path, { query: { after, limit: 1000 } });
    if (look(events) || events.length === 0) return;
    after = next;
  }
}

function outcome(request: string, { type, offset, body }: FabricEvent): Outcome {
  const word = type.slice("control.".length) as Outcome["outcome"];
  const reason = body["reason"];
  return { outcome: word, request, action: String(body["action"]), run: String(body["run"]), reason: typeof reason === "string" ? reason : null, offset };
}
