import type { Feed } from "./feed.js";

/** A claim lasts 30 s: it is said again well before. */
const RENEW_MS = 10_000;
/** A clock of ours that is ahead must not ask all the time. */
const LEAST_MS = 1_000;

/** Claims tool requests for this device, and keeps them until they are over or it is closed. */
export class Claims {
  private readonly timers = new Map<string, ReturnType<typeof setInterval>>();
  private readonly asking = new Set<string>();

  private readonly off: () => void;

  constructor(private readonly feed: Feed) {
    this.off = feed.on("change", () => this.tidy());
  }

  /** Whether a request is claimed by this device; claims it where it is free. The feed changes when the answer does. */
  held(request: string): boolean {
    const claim = this.feed.requests.get(request)?.claimed ?? null;
    const left = claim === null ? 0 : claim.until - Date.now();
    if (left > 0 && claim?.device === this.feed.session.client.device) {
      this.keep(request);
      return true;
    }
    if (left > 0) this.later(request, left);
    else void this.ask(request);
    return false;
  }

  close(): void {
    this.off();
    for (const request of [...this.timers.keys()]) this.drop(request);
  }

  /** Forget what is over. */
  private tidy(): void {
    for (const request of [...this.timers.keys()]) if (this.feed.closed || this.feed.requests.get(request) === undefined) this.drop(request);
  }

  private async ask(request: string): Promise<void> {
    if (this.asking.has(request)) return;
    this.asking.add(request);
    // What became of it is told by an event, or by the refusal that names who has it.
    await this.feed.requests.claim(request).catch(() => undefined);
    this.asking.delete(request);
  }

  private keep(request: string): void {
    if (this.timers.has(request)) return;
    this.timers.set(request, setInterval(() => void this.ask(request), RENEW_MS));
  }

  /** Look again when somebody else's claim has lapsed: no event says so. */
  private later(request: string, ms: number): void {
    if (this.timers.has(request)) return;
    const look = (): void => {
      this.drop(request);
      this.feed.nudge();
    };
    this.timers.set(request, setTimeout(look, Math.max(ms, LEAST_MS)));
  }

  private drop(request: string): void {
    clearInterval(this.timers.get(request));
    this.timers.delete(request);
  }
}
