import { Follower } from "./follower.js";
import { Leader } from "./leader.js";
import type { Machine } from "./machine.js";
import type { Called, End, Way } from "./words.js";

/** Patience is counted in ticks, so that time in which this tab was frozen itself does not count. */
const TICK_MS = 250;
const TICKS = 6;

/** A dial of this tab: gets its way from `take`. */
export interface Dialling extends End {
  take(way: Way): void;
}

/** One tab among those of a scope. One of them leads: the one that has the scope's lock. */
export class Member {
  private leader: Leader | null = null;
  private readonly lobby: BroadcastChannel;
  private readonly followers = new Map<Dialling, Follower>();
  private standing: AbortController | null = null;
  private resign: () => void = () => undefined;
  private gone = false;

  constructor(
    private readonly machine: Machine,
    private readonly scope: string,
    private readonly url: string,
  ) {
    this.lobby = machine.channel(scope);
    this.lobby.onmessage = ({ data }) => this.called(data as Called);
  }

  /** Have a lane, of our own socket or of the leading tab's. */
  dial(dialling: Dialling): void {
    if (this.leader !== null) return dialling.take(this.leader.lane(dialling));
    this.stand();
    const follower = new Follower(this.machine, this.scope, this.lobby, dialling);
    this.followers.set(dialling, follower);
    dialling.take({
      send: (text) => follower.send(text),
      close: (reason) => {
        this.followers.delete(dialling);
        follower.close(reason);
      },
    });
    this.wait(dialling, follower, TICKS, () => {
      this.takeOver();
      this.wait(dialling, follower, TICKS, () => {
        this.drop(dialling, follower);
        dialling.alone();
      });
    });
  }

  /** Leave the others; who has a lane through us loses it, and finds another one. */
  leave(reason: string): void {
    if (this.gone) return;
    this.gone = true;
    this.standing?.abort();
    for (const [dialling, follower] of [...this.followers]) {
      this.followers.delete(dialling);
      follower.broken(reason);
    }
    this.step(reason);
    this.lobby.close();
  }

  private wait(dialling: Dialling, follower: Follower, ticks: number, done: () => void): void {
    const tick = (): void => {
      if (this.followers.get(dialling) !== follower || follower.leader !== null) return;
      if (ticks <= 0) return done();
      ticks -= 1;
      setTimeout(tick, TICK_MS);
    };
    tick();
  }

  private drop(dialling: Dialling, follower: Follower): void {
    this.followers.delete(dialling);
    follower.close("not needed");
  }

  private called(called: Called): void {
    if ("dial" in called) return this.leader?.link(called.dial);
    for (const [dialling, follower] of [...this.followers]) {
      if (follower.leader === null) follower.call();
      else if (follower.leader !== called.leads) {
        this.followers.delete(dialling);
        follower.broken("another tab leads");
      }
    }
  }

  // --- who leads ---

  /** Lead when nobody else does, now or later. */
  private stand(): void {
    if (this.standing !== null) return;
    this.standing = new AbortController();
    this.hold({ signal: this.standing.signal });
  }

  /** Lead at once: the one that does has given no sign of life. */
  private takeOver(): void {
    this.standing?.abort();
    this.standing = new AbortController();
    this.hold({ steal: true });
  }

  private hold(options: LockOptions): void {
    const standing = this.standing;
    this.machine.locks
      .request(this.scope, options, () => (this.standing === standing && !this.gone ? this.lead() : undefined))
      // Called off, or taken from us by a tab that has heard nothing of us.
      .catch(() => undefined)
      .finally(() => {
        if (this.standing !== standing) return;
        this.standing = null;
        this.step("another tab leads");
      });
  }

  private lead(): Promise<void> {
    const leader = (this.leader = new Leader(this.machine, this.url));
    this.lobby.postMessage({ leads: leader.id } satisfies Called);
    for (const [dialling, follower] of [...this.followers]) {
      if (follower.leader === null) {
        this.drop(dialling, follower);
        dialling.take(leader.lane(dialling));
      } else {
        this.followers.delete(dialling);
        follower.broken("this tab leads");
      }
    }
    return new Promise((resolve) => (this.resign = resolve));
  }

  private step(reason: string): void {
    const { leader } = this;
    this.leader = null;
    leader?.end(reason);
    this.resign();
  }
}
