import type { Feed } from "./feed.js";

/** A claim lasts 30 s: it is said again well before. */
const RENEW_MS = 10_000;

/** Claims tool requests for this device, and keeps them until they are over or it is closed. */
export class Claims {
  private readonly timers = new Map<string, ReturnType<typeof setInterval>>();
  private readonly asking = new Set<string>();
  /** What the gateway has given us, and is asked for again before it lapses. */
  private readonly kept = new Set<string>();

  private closed = false;
  private readonly off: () => void;

  constructor(private readonly feed: Feed) {
    this.off = feed.on("change", () => this.tidy());
  }

  /** Whether a request is claimed by this device; claims it where it is free. The feed changes when the answer does. */
  held(request: string): boolean {
    const { requests, session } = this.feed;
    const one = requests.get(request);
    const ours = !one?.claimed || one.claimed.device === session.client.device;
    if (ours && this.kept.has(request)) return true;
    const left = one === undefined || ours ? 0 : requests.left(one);
    if (left > 0) this.later(request, left);
    else void this.ask(request);
    return false;
  }

  close(): void {
    this.closed = true;
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
    // A refusal names who has it.
    const given = await this.feed.requests.claim(request).catch(() => undefined);
    this.asking.delete(request);
    const kept = this.kept.has(request);
    if (kept === (given !== undefined) || this.closed || this.feed.requests.get(request) === undefined) return;
    this.drop(request);
    if (kept) return;
    this.kept.add(request);
    this.timers.set(request, setInterval(() => void this.ask(request), RENEW_MS));
    this.feed.nudge();
  }

  /** Look again when somebody else's claim has lapsed: no event says so. */
  private later(request: string, ms: number): void {
    if (this.kept.has(request)) this.drop(request); // it was ours
    if (this.timers.has(request)) return;
    const look = (): void => {
      this.drop(request);
      this.feed.nudge();
    };
    this.timers.set(request, setTimeout(look, ms));
  }

  private drop(request: string): void {
    clearInterval(this.timers.get(request));
    this.timers.delete(request);
    this.kept.delete(request);
  }
}
