import { newId } from "../index.js";
import type { Machine } from "./machine.js";
import { type Lane, Trunk } from "./trunk.js";
import { BROKEN, type End, LANES, type Said, SLOW_CONSUMER, type Told } from "./words.js";

/** Characters that a tab has not taken up yet: above the first it is sent nothing more, until it is below the second. */
const HIGH = 256 * 1024;
const LOW = 64 * 1024;
/** What is under way when a lane is held is let through; a tab that has left so much is let go, and resumes. */
const MOST = 16 * 1024 * 1024;

/** What the tab that leads does for all: it has the socket, and carries frames unread between its lanes and the tabs. */
export class Leader {
  readonly id = newId("l");
  private trunk: Trunk | null = null;
  private readonly links = new Map<string, Link>();
  private readonly trunks = new Set<Trunk>();

  constructor(
    private readonly machine: Machine,
    private readonly url: string,
  ) {}

  /** A lane for a tab of any kind, on a socket that takes new ones. */
  lane(end: End): Lane {
    if (this.trunk === null || this.trunk.over) {
      for (const trunk of this.trunks) if (trunk.over) this.trunks.delete(trunk);
      const socket = this.machine.socket(`${this.url.replace(/^http/, "ws")}/v1/ws`, [LANES, "session-fabric.v1"]);
      this.trunk = new Trunk(socket, { leaving: (left) => void (this.trunk === left && (this.trunk = null)) });
      this.trunks.add(this.trunk);
    }
    return this.trunk.lane(end);
  }

  /** Another tab wants a lane, and has a lock of the link's name for as long as it lives. */
  link(name: string): void {
    if (this.links.has(name)) return;
    const gone = new AbortController();
    const forget = (): void => {
      gone.abort();
      this.links.delete(name);
    };
    const link = new Link(this.machine.channel(name), this, forget);
    this.links.set(name, link);
    this.machine.locks
      .request(name, { signal: gone.signal }, () => link.close("the tab is gone"))
      .catch(() => undefined);
  }

  /** Lead no more. */
  end(reason: string): void {
    for (const trunk of this.trunks) trunk.end(BROKEN, reason);
    for (const link of [...this.links.values()]) link.close(reason);
  }
}

/** The leading tab's end of the channel to another one. */
class Link implements End {
  private readonly lane: Lane;
  private unread = 0;
  private held = false;
  private closed = false;

  constructor(
    private readonly channel: BroadcastChannel,
    private readonly leader: Leader,
    private readonly forget: () => void,
  ) {
    channel.onmessage = ({ data }) => this.said(data as Said);
    this.tell({ here: true });
    this.lane = leader.lane(this);
  }

  opened(): void {
    this.tell({ opened: true });
  }

  text(text: string): void {
    if (this.closed) return;
    this.unread += text.length;
    this.tell({ text });
    if (this.unread > MOST && this.unread > 2 * text.length) {
      this.tell({ over: [SLOW_CONSUMER, "slow consumer"] });
      return this.close("slow consumer");
    }
    if (this.held || this.unread <= HIGH) return;
    this.held = true;
    this.lane.hold();
  }

  over(code: number, reason: string): void {
    this.tell({ over: [code, reason] });
    this.close(reason);
  }

  alone(): void {
    this.tell({ alone: true });
    this.close("alone");
  }

  close(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.channel.close();
    this.forget();
    this.lane?.close(reason);
  }

  private said(said: Said): void {
    // What was for one that led before us, who has the socket still, is not ours.
    if (this.closed || said.to !== this.leader.id) return;
    if ("text" in said) {
      this.lane.send(said.text);
      this.tell({ here: true });
    } else if ("had" in said) {
      this.unread -= said.had;
      if (!this.held || this.unread > LOW) return;
      this.held = false;
      this.lane.go();
    } else {
      this.close(said.bye);
    }
  }

  private tell(told: Omit<Told, "from"> & Partial<Told>): void {
    if (!this.closed) this.channel.postMessage({ ...told, from: this.leader.id });
  }
}
