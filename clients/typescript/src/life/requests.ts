import { FabricError, type FabricEvent, newId, type Offset, type Session } from "../index.js";
import { RequestFold } from "./asked.js";
import { Changing } from "./changing.js";

/** Who may answer: null (anybody), `"user:ada"`, `"role:operator"`, or one device. */
export type To = string | { readonly participant: string; readonly device: string } | null;

export interface Claim {
  readonly by: string;
  readonly device: string | null;
  /** Milliseconds since 1970 by the broker's clock. */
  readonly until: number;
}

/** What a run asks of participants and nobody has answered yet. */
export interface OpenRequest {
  readonly request: string;
  readonly kind: "tool" | "approval" | "choice" | "text" | "form";
  readonly run: string;
  readonly to: To;
  readonly offset: Offset;
  /** Milliseconds since 1970, as `deadline`; null: no deadline. */
  readonly asked: number | null;
  readonly deadline: number | null;
  /** The newest claim, which may have lapsed. */
  readonly claimed: Claim | null;
  readonly tool?: string;
  readonly args?: unknown;
  readonly call?: string;
  readonly title?: string;
  readonly text?: string | null;
  readonly options?: readonly unknown[];
  readonly schema?: unknown;
  readonly default?: unknown;
}

/** So long a claim lasts. */
const CLAIM_MS = 30_000;
/** Who was refused a claim asks again no sooner. */
const LEAST_MS = 1_000;
/** After these refusals nobody can answer any more. */
const OVER = new Set(["already_answered", "request_closed", "request_not_found"]);

/** What is open in the session, from its events and, at each `live`, from the gateway. The session must be open, with the view `full`. */
export function requests(session: Session): OpenRequests {
  return new OpenRequests(session);
}

export class OpenRequests extends Changing {
  /** The gateway has said what is open. */
  ready = false;
  /** Why it would not say, if so. */
  error: FabricError | null = null;
  private readonly fold = new RequestFold();
  /** Requests of which events have told since the gateway was asked: that may be newer than its answer. */
  private meanwhile = new Set<string>();
  /** Of others' claims, by request: when we heard of the newest one, and from when on another try may be of use. */
  private readonly heard = new Map<string, { readonly until: number; readonly at: number; readonly next: number }>();

  constructor(readonly session: Session) {
    super();
    this.offs.push(
      session.on("events", (events) => this.take(events)),
      session.on("live", () => void this.ask()),
    );
    if (session.live) void this.ask();
  }

  /** Oldest first. */
  get open(): readonly OpenRequest[] {
    return this.fold.open;
  }

  get(request: string): OpenRequest | undefined {
    return this.fold.get(request);
  }

  /** Whether it is addressed to us: to anybody, to our participant, role or device. Where the gateway has not said who we are: perhaps. */
  mine({ to }: OpenRequest): boolean {
    const { participant, device } = this.session.client;
    if (to === null) return true;
    if (typeof to !== "string") return to.device === device && (participant === null || to.participant === participant);
    if (participant === null) return true;
    return to.startsWith("role:") ? participant.startsWith(`${to.slice(5)}:`) : to === participant;
  }

  /**
   * How long somebody else's claim is to be waited for. By when we heard of it as much as by its `until`, since our clock
   * need not be the broker's: one that is behind is not waited for longer, one that is ahead does not ask all the time.
   */
  left({ request, claimed }: OpenRequest): number {
    if (claimed === null) return 0;
    const now = Date.now();
    const known = this.heard.get(request);
    const { at, next } = known?.until === claimed.until ? known : { at: now, next: now };
    this.heard.set(request, { until: claimed.until, at, next });
    return Math.max(0, next - now, Math.min(claimed.until - now, at + CLAIM_MS - now));
  }

  /** Say that this device works on a tool request, for 30 s; claim again to go on. Throws `already_claimed`, which names `by` and `until`. */
  async claim(request: string): Promise<number> {
    try {
      const fields = { request, device: this.session.client.device };
      const { until } = await this.session.ask<{ until: number }>("claim", fields, "POST /requests/{request}/claim");
      return until;
    } catch (error) {
      throw this.refused(request, error);
    }
  }

  /** Answer: `{approved, comment}`, an option, a text, a form, or a tool's result. Exactly one answer counts; `already_answered` names whose. */
  answer(request: string, body: unknown): Promise<Offset> {
    return this.give(request, { body: body === undefined ? null : body });
  }

  /** Answer that a tool has failed. */
  fail(request: string, error: string): Promise<Offset> {
    return this.give(request, { error });
  }

  private async give(request: string, given: { body: unknown } | { error: string }): Promise<Offset> {
    try {
      // One event id for all tries: an answer that was stored is recognized.
      const fields = { ...given, request, event: newId("a"), device: this.session.client.device };
      const { offset } = await this.session.ask<{ offset: Offset }>("answer", fields, "POST /requests/{request}/answer");
      this.end(request);
      return offset;
    } catch (error) {
      throw this.refused(request, error);
    }
  }

  private refused(request: string, error: unknown): unknown {
    if (!(error instanceof FabricError)) return error;
    if (OVER.has(error.code)) this.end(request);
    if (error.code === "already_claimed" && this.get(request) !== undefined) {
      const claim = error.facts as unknown as Claim;
      const now = Date.now();
      this.heard.set(request, { until: claim.until, at: now, next: now + LEAST_MS });
      this.fold.claimed(request, claim);
      this.changed();
    }
    return error;
  }

  private end(request: string): void {
    if (this.fold.end(request)) this.changed();
  }

  private async ask(): Promise<void> {
    const since = (this.meanwhile = new Set<string>());
    try {
      const answer = await this.session.ask<{ requests: readonly OpenRequest[] }>("requests", {}, "GET /requests");
      if (since !== this.meanwhile) return; // asked again already
      this.fold.set(answer.requests, since);
      this.ready = true;
      this.error = null;
    } catch (error) {
      this.error = error as FabricError;
    }
    this.changed();
  }

  private take(events: readonly FabricEvent[]): void {
    let news = false;
    for (const event of events) {
      const { request } = event.body;
      if (typeof request === "string") this.meanwhile.add(request);
      news = this.fold.add(event) || news;
    }
    if (news) this.changed();
  }
}
