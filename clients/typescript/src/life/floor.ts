import { type Appended, type ClientFrame, FabricError, type FabricEvent, newId, type OtherOp, type Session, type Via } from "../index.js";
import { Changing } from "./changing.js";
import { FloorFold, type Offer } from "./floors.js";
import type { To } from "./requests.js";

/** Who answers the session's inputs of a pool. */
export interface FloorHolder {
  readonly participant: string;
  readonly holder?: string | null;
  readonly generation: number;
}

/** As the gateway says it: without a participant where nobody has it. */
type FloorAnswer = { readonly floor: (Omit<FloorHolder, "participant"> & { readonly participant: string | null }) | null };

const holderOf = (floor: FloorAnswer["floor"]): FloorHolder | null => (floor === null || floor.participant === null ? null : (floor as FloorHolder));

export interface OfferOptions {
  readonly note?: string | undefined;
  readonly deadlineMs?: number | undefined;
}

/** The floor of a pool: who answers, and handing it on to a person and back. The session must be open. */
export function floor(session: Session, pool = "default"): Floor {
  return new Floor(session, pool);
}

export class Floor extends Changing {
  /** Who holds it, as far as is known; null: nobody. */
  current: FloorHolder | null = null;
  private readonly fold = new FloorFold();
  private asked = 0;

  constructor(
    readonly session: Session,
    readonly pool: string,
  ) {
    super();
    this.offs.push(
      session.on("events", (events) => this.heard(events)),
      session.on("live", () => this.look()),
    );
    if (session.live) this.look();
  }

  /** Offers that nobody has decided, oldest first. */
  get offers(): readonly Offer[] {
    return this.fold.offers(this.pool);
  }

  /** Ask the gateway who holds it. */
  async state(): Promise<FloorHolder | null> {
    const number = (this.asked += 1);
    const { floor } = await this.session.ask<FloorAnswer>("floor", { pool: this.pool }, "GET /floor");
    const holder = holderOf(floor);
    if (number === this.asked) this.hold(holder);
    return holder;
  }

  /** Offer it to a participant, a role or a pool; `request` of the answer is what is accepted or declined. */
  offer(to: To, options: OfferOptions = {}): Promise<Appended & { readonly request: string }> {
    const { note, deadlineMs } = options;
    // One event id for all tries: an offer whose answer was lost is made once.
    const fields = { pool: this.pool, to, note, deadline_ms: deadlineMs, event: newId("ho-") };
    return this.session.ask("handoff.offer", fields, "POST /handoffs");
  }

  accept(request: string, note?: string): Promise<FloorHolder | null> {
    return this.change("handoff.accept", { pool: this.pool, request, note }, "POST /handoffs/{request}/accept");
  }

  decline(request: string, note?: string): Promise<FloorHolder | null> {
    return this.change("handoff.decline", { pool: this.pool, request, note }, "POST /handoffs/{request}/decline");
  }

  /** Take it without being asked: from now on we answer. */
  take(note?: string): Promise<FloorHolder | null> {
    return this.change("floor.take", { pool: this.pool, note }, "POST /floor/take");
  }

  /** Give it back to the pool's agents. */
  giveBack(note?: string): Promise<FloorHolder | null> {
    return this.change("floor.return", { pool: this.pool, note }, "POST /floor/return");
  }

  /** Say something in the assistant's place. Said again with the same id it is one message. */
  say(text: string, id = newId("m")): Promise<Appended> {
    const message = { id, role: "assistant", content: text };
    return this.session.ask("say", { message, pool: this.pool }, "POST /say");
  }

  private async change(op: OtherOp, fields: Readonly<Record<string, unknown>>, via: Via): Promise<FloorHolder | null> {
    const { client, name } = this.session;
    let again = 0;
    try {
      const frame = { ...fields, op, session: name, via } as ClientFrame;
      const { floor } = (await client.ask((tries) => ((again = tries), frame))) as unknown as FloorAnswer;
      this.look(); // what the answer says may be old by now
      return holderOf(floor);
    } catch (error) {
      // Of an act whose answer was lost, the next try finds what we did ourselves.
      if (again === 0 || !(error instanceof FabricError)) throw error;
      const { code, facts } = error;
      const ours = code === "already_answered" && facts["by"] === client.participant;
      if (!ours && !(op === "floor.return" && code === "not_holder")) throw error;
      return this.state();
    }
  }

  private look(): void {
    this.state().catch((_error: FabricError) => undefined); // asked again at the next `live`
  }

  private hold(floor: FloorHolder | null): void {
    this.current = floor;
    this.changed();
  }

  private heard(events: readonly FabricEvent[]): void {
    let moved = false;
    for (const event of events) if (event.body["pool"] === this.pool) moved = this.fold.add(event) || moved;
    if (!moved) return;
    this.changed();
    // Of what is heard while history comes, the end alone counts: `live` asks.
    if (this.session.live) this.look();
  }
}
