import type { Body, FabricEvent, Offset } from "../index.js";
import type { Claim, OpenRequest } from "./requests.js";

/** A request and what became of it. */
export interface Asked {
  readonly request: OpenRequest;
  readonly state: "open" | "answered" | "expired";
  /** Who answered. */
  readonly by: string | null;
  /** Nobody has answered, so that the default counts. */
  readonly defaulted: boolean;
  /** What was answered: a tool's result, or the body of an answer. */
  readonly answer: unknown;
  /** Why a tool has failed. */
  readonly error: string | null;
  /** Why it is over without an answer: `deadline` or `run_ended`. */
  readonly reason: string | null;
}

const CLAIM_MS = 30_000;
const KINDS = new Set<unknown>(["approval", "choice", "text", "form"]);
const RUN_OVER = /^(RUN_FINISHED|RUN_ERROR|message\.(steered|rejected|expired))$/;

/**
 * A session's requests: from its events, in whatever order and however often they come. A rule: no I/O. One whose
 * deadline has passed is open until the fabric says that it is over.
 */
export class RequestFold {
  private readonly asked = new Map<string, OpenRequest>();
  private readonly claims = new Map<string, { readonly at: Offset; readonly claim: Claim }>();
  private readonly outcomes = new Map<string, FabricEvent>();
  /** Runs that are over. */
  private readonly over = new Set<string>();
  /** What is known to be over though no event has said so. */
  private readonly ended = new Set<string>();
  /** What was asked for what has been redacted since. */
  private readonly redacted = new Set<unknown>();

  /** Fold one event; true when it changed what is open. */
  add(event: FabricEvent): boolean {
    const { type, body, offset, run } = event;
    if (RUN_OVER.test(type)) {
      const open = this.sorted(run ?? "").some((one) => this.isOpen(one));
      this.over.add(run ?? "");
      return open;
    }
    if (/^(message|event)\.redacted$/.test(type)) {
      const open = this.open.length;
      for (const request of (body["requests"] ?? []) as unknown[]) this.redacted.add(request);
      return open > this.open.length;
    }
    if (!/^(tool|input)\./.test(type)) return false;
    const request = String(body["request"] ?? event.id);
    switch (type) {
      case "tool.requested":
      case "input.requested": {
        const read = requestOf(request, event, body);
        if (read === null || this.asked.has(request)) return false;
        this.asked.set(request, read);
        return this.isOpen(read);
      }
      case "tool.claimed":
        if (offset <= (this.claims.get(request)?.at ?? "")) return false;
        this.claims.set(request, { at: offset, claim: claimOf(event) });
        return this.get(request) !== undefined;
      default: {
        const open = this.get(request) !== undefined;
        this.outcomes.set(request, event);
        return open;
      }
    }
  }

  /** Take from whoever knows what is open, but for `since`, of which events have told since they were asked. */
  set(listed: readonly OpenRequest[], since: ReadonlySet<string>): void {
    const known = new Set([...since, ...listed.map(({ request }) => request)]);
    for (const { request } of this.open) if (!known.has(request)) this.ended.add(request);
    for (const one of listed) {
      this.asked.set(one.request, one);
      if (!since.has(one.request)) this.claims.delete(one.request);
    }
  }

  /** Know of a claim from elsewhere. */
  claimed(request: string, claim: Claim): void {
    this.claims.set(request, { at: this.claims.get(request)?.at ?? "", claim });
  }

  /** Know that a request is over; true when it was open. */
  end(request: string): boolean {
    const open = this.get(request) !== undefined;
    this.ended.add(request);
    return open;
  }

  /** All requests, oldest first. */
  get all(): readonly Asked[] {
    return this.of();
  }

  /** Those of a run, or all. */
  of(run?: string): readonly Asked[] {
    return this.sorted(run).map((request) => {
      const outcome = this.outcomes.get(request.request);
      const body: Partial<Body> = outcome?.body ?? {};
      const answered = outcome?.type.endsWith(".answered") === true;
      const state = answered ? "answered" : this.isOpen(request) ? "open" : "expired";
      const defaulted = answered && body["defaulted"] === true;
      // Who answered is who wrote it, whatever the body says; a default counts in the fabric's name.
      const by = !answered ? null : defaulted ? String(body["by"]) : outcome.actor;
      const answer = answered ? (body[request.kind === "tool" ? "result" : "body"] ?? null) : null;
      const error = answered ? ((body["error"] ?? null) as string | null) : null;
      const reason = state === "expired" ? ((body["reason"] ?? "run_ended") as string) : null;
      return { request: this.shown(request), state, by, defaulted, answer, error, reason };
    });
  }

  /** Those that can be answered, oldest first. */
  get open(): readonly OpenRequest[] {
    return this.sorted().filter((one) => this.isOpen(one)).map((one) => this.shown(one));
  }

  /** A request that can be answered. */
  get(request: string): OpenRequest | undefined {
    const one = this.asked.get(request);
    return one !== undefined && !this.redacted.has(request) && this.isOpen(one) ? this.shown(one) : undefined;
  }

  private sorted(of?: string): OpenRequest[] {
    const left = [...this.asked.values()].filter(({ request, run }) => (of === undefined || run === of) && !this.redacted.has(request));
    return left.sort((a, b) => (a.offset < b.offset ? -1 : 1));
  }

  private isOpen({ request, run }: OpenRequest): boolean {
    return !this.outcomes.has(request) && !this.ended.has(request) && !this.over.has(run);
  }

  private shown(one: OpenRequest): OpenRequest {
    const claimed = this.isOpen(one) ? (this.claims.get(one.request)?.claim ?? one.claimed) : null;
    return claimed === one.claimed ? one : { ...one, claimed };
  }
}

function requestOf(request: string, event: FabricEvent, body: Body): OpenRequest | null {
  const { type, deadline_ms, ...fields } = body;
  const kind = type === "tool.requested" ? "tool" : body["kind"];
  if (typeof body["run"] !== "string" || (kind !== "tool" && !KINDS.has(kind))) return null;
  const deadline = typeof deadline_ms === "number" && event.ts !== undefined ? event.ts + deadline_ms : null;
  const more = { request, kind, offset: event.offset, asked: event.ts ?? null, deadline, claimed: null };
  return { to: null, ...fields, ...more } as unknown as OpenRequest;
}

/** By the broker's clock at the most, whatever the claimer's says. */
function claimOf({ actor, ts, body: { device, until } }: FabricEvent): Claim {
  const most = ts === undefined ? Infinity : ts + CLAIM_MS;
  return { by: actor, device: typeof device === "string" ? device : null, until: typeof until === "number" ? Math.min(until, most) : most };
}
