import type { FabricEvent, Offset } from "../index.js";
import type { To } from "./requests.js";

/** The floor, offered to somebody who has not said yes or no yet; any change of the floor ends it. */
export interface Offer {
  readonly request: string;
  readonly pool: string;
  readonly by: string;
  readonly to: To;
  readonly note: string | null;
  /** Milliseconds since 1970; null: none. */
  readonly deadline: number | null;
  readonly offset: Offset;
}

/** A participant of null: nobody. */
export interface FloorState {
  readonly participant: string | null;
  readonly holder: string | null;
  readonly generation: number;
}

/**
 * Who has a session's floors and what is offered: from its events, in whatever order and however often they come. A
 * rule: no I/O. An offer whose deadline has passed is open until the fabric says that it is over.
 */
export class FloorFold {
  /** By pool, as `read` has them; `at` is the floor's newest event when it was offered. */
  private readonly offered = new Map<string, Map<string, { offer: Offer; at: Offset }>>();
  private readonly newest = new Map<string, FabricEvent>();

  /** Fold one event; true when it is of a floor. */
  add(event: FabricEvent): boolean {
    const { type, body, offset } = event;
    const { pool } = body;
    if (!/^(floor|handoff)\./.test(type) || typeof pool !== "string") return false;
    const offers = this.offered.get(pool) ?? new Map<string, { offer: Offer; at: Offset }>();
    this.offered.set(pool, offers);
    if (type === "handoff.offered") {
      const read = offerOf(event, pool);
      if (read !== null) offers.set(read.offer.request, read);
    } else if (offset > (this.newest.get(pool)?.offset ?? "")) {
      this.newest.set(pool, event);
    }
    return true;
  }

  /** The pools of whose floors anything is known, by name. */
  get pools(): readonly string[] {
    return [...this.offered.keys()].sort();
  }

  state(pool: string): FloorState {
    const { participant, holder, generation } = (this.newest.get(pool)?.body["floor"] ?? {}) as { [name: string]: unknown };
    return { participant: textOr(participant), holder: textOr(holder), generation: typeof generation === "number" ? generation : 0 };
  }

  /** Offers that nobody has decided, oldest first. */
  offers(pool: string): readonly Offer[] {
    const newest = this.newest.get(pool)?.offset ?? "";
    const open = [...(this.offered.get(pool)?.values() ?? [])].filter(({ at }) => newest <= at);
    return open.map(({ offer }) => offer).sort((a, b) => (a.offset < b.offset ? -1 : 1));
  }
}

function offerOf({ body, actor, offset, ts, id }: FabricEvent, pool: string): { offer: Offer; at: Offset } | null {
  const { request, to, note, deadline_ms, floor } = body;
  if (typeof floor !== "number") return null; // nobody could accept it
  const deadline = typeof deadline_ms === "number" && ts !== undefined ? ts + deadline_ms : null;
  const offer = { request: String(request ?? id), pool, by: actor, to: (to ?? null) as To, note: textOr(note), deadline, offset };
  return { offer, at: offset.slice(0, offset.indexOf("_") + 1) + String(floor).padStart(16, "0") };
}

const textOr = (value: unknown): string | null => (typeof value === "string" ? value : null);
