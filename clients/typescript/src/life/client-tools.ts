import { FabricError, type Session } from "../index.js";
import { Changing } from "./changing.js";
import { type OpenRequest, OpenRequests } from "./requests.js";

/** Does what a run asks for, and returns the result (any JSON) or throws. `signal`: the result is wanted no more. */
export type Tool = (args: never, request: OpenRequest, signal: AbortSignal) => unknown;

export interface ToolsOptions {
  /** A list that is there already, instead of one of its own. */
  readonly requests?: OpenRequests;
}

/** A claim lasts 30 s: it is said again well before. */
const RENEW_MS = 10_000;

/**
 * Offer this page's tools to the session's runs: requests for them that are addressed to us are claimed, run and
 * answered, an exception as the tool's error. After a reload what is open is picked up again, for which the page must
 * keep its `device`. The session must be open.
 */
export function clientTools(session: Session, tools: Readonly<Record<string, Tool>>, options: ToolsOptions = {}): ClientTools {
  return new ClientTools(session, tools, options);
}

export class ClientTools extends Changing {
  readonly requests: OpenRequests;
  private readonly stops = new Map<string, AbortController>();
  /** Ended for us in a way that trying again does not change. */
  private readonly over = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly session: Session,
    private readonly tools: Readonly<Record<string, Tool>>,
    options: ToolsOptions,
  ) {
    super();
    const own = options.requests === undefined ? new OpenRequests(session) : null;
    this.requests = options.requests ?? (own as OpenRequests);
    this.offs.push(
      () => own?.close(),
      this.requests.on("change", () => this.look()),
      session.on("ended", () => this.close()),
    );
    this.look();
  }

  /** The requests that are being worked on here. */
  get running(): readonly string[] {
    return [...this.stops.keys()];
  }

  /** Stop: what is being worked on is left to whoever claims it when our claim has lapsed. */
  override close(): void {
    super.close();
    clearTimeout(this.timer);
    for (const stop of this.stops.values()) stop.abort();
    this.stops.clear();
  }

  private look(): void {
    const { requests, stops } = this;
    for (const [id, stop] of stops) {
      if (requests.get(id) !== undefined || this.over.has(id)) continue;
      stops.delete(id);
      stop.abort();
      this.changed();
    }
    if (!requests.ready) return;
    clearTimeout(this.timer);
    let next = Infinity;
    for (const one of requests.open) {
      const { request, kind, tool = "", claimed } = one;
      if (kind !== "tool" || !Object.hasOwn(this.tools, tool) || !requests.mine(one)) continue;
      if (stops.has(request) || this.over.has(request)) continue;
      const left = claimed !== null && this.ours(claimed) ? 0 : requests.left(one);
      if (left === 0) void this.work(one);
      else next = Math.min(next, left);
    }
    if (next < Infinity) this.timer = setTimeout(() => this.look(), next);
  }

  private ours(claimed: { by: string; device: string | null }): boolean {
    const { participant, device } = this.session.client;
    return claimed.device === device && (participant === null || claimed.by === participant);
  }

  private async work(one: OpenRequest): Promise<void> {
    const { request } = one;
    const stop = new AbortController();
    this.stops.set(request, stop);
    this.changed();
    let renewing: ReturnType<typeof setInterval> | undefined;
    try {
      await this.requests.claim(request);
      if (stop.signal.aborted) return;
      // A claim that was lost is known from the answer, or from the events.
      renewing = setInterval(() => void this.requests.claim(request).catch(() => undefined), RENEW_MS);
      stop.signal.addEventListener("abort", () => clearInterval(renewing));
      const tool = this.tools[one.tool as string] as Tool;
      let answer: () => Promise<unknown>;
      try {
        const result = await tool(one.args as never, one, stop.signal);
        answer = () => this.requests.answer(request, result);
      } catch (error) {
        answer = () => this.requests.fail(request, messageOf(error));
      }
      if (stop.signal.aborted) return;
      this.over.add(request); // what ends it now is our own answer
      await answer().catch((error: unknown) => {
        if (error instanceof FabricError && /^(too_large|invalid_request)$/.test(error.code)) {
          return this.requests.fail(request, `The result was refused: ${error.message}`);
        }
        throw error;
      });
    } catch (error) {
      // Whoever else has claimed it may die over it: looked at again when the claim lapses.
      if (!(error instanceof FabricError) || error.code !== "already_claimed") this.over.add(request);
    } finally {
      clearInterval(renewing);
      if (this.stops.get(request) === stop) this.stops.delete(request);
      if (this.offs.length > 0) queueMicrotask(() => this.look());
      this.changed();
    }
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message || error.name : String(error));
