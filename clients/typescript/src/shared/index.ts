import { type ConnectOptions, httpTransports, type Target, type Transport, webSocketTransport, type WebSocketClass, type Wire, type WireEvents } from "../index.js";
import { parseFrame, textOf } from "../frames.js";
import { type ClientFrame, GIVE_UP } from "../words.js";
import { type Machine, machineOf, scopeOf } from "./machine.js";
import { type Dialling, Member } from "./member.js";
import { ANOTHERS, BROKEN, type Way } from "./words.js";

/** The tabs of different versions of what they say to each other do not hear each other. */
const VERSION = 1;

/**
 * Options for `connect` with which the tabs of a browser share one connection to the gateway:
 * `connect(shared({ url, token }))`.
 *
 * Tabs of one origin, one gateway and one participant do, where the browser has what it takes; all others, and those
 * without a token, have a connection of their own. `client.status.transport` is `"shared"` or `"websocket"`.
 */
export function shared(options: Omit<ConnectOptions, "transports"> = {}): ConnectOptions {
  return { ...options, transports: [sharedTransport(options.webSocket), ...httpTransports()] };
}

function sharedTransport(implementation?: WebSocketClass): Transport {
  const sharing = new Sharing(machineOf(implementation), webSocketTransport(implementation));
  return {
    get name() {
      return sharing.sharing ? "shared" : "websocket";
    },
    available: () => sharing.own.available(),
    dial: (target, events) => new SharedWire(sharing, target, events),
  };
}

/** What this tab's dials have in common. */
class Sharing {
  /** Whether the newest dial shares. */
  sharing = false;
  private scope = "";
  private member: Member | null = null;
  /** Who said that this scope's tabs are not to share. */
  private alone = false;
  private wires = 0;
  /** Settled while the page is not put away. */
  private here: Promise<unknown> = Promise.resolve();
  private watching: AbortController | null = null;

  constructor(
    private readonly machine: Machine | null,
    readonly own: Transport,
  ) {}

  /** Go among the tabs that one may share with, if there can be any. */
  async join({ url, token }: Target): Promise<Member | null> {
    if (this.machine === null || !token) return null;
    this.watching ??= this.watch();
    await this.here;
    const scope = `session-fabric ${VERSION} ${await this.machine.digest(scopeOf(url, token))}`;
    if (this.wires === 0) return null; // closed meanwhile
    if (scope !== this.scope) {
      this.leave("another participant");
      this.alone = false;
      this.scope = scope;
    }
    if (this.alone) return null;
    return (this.member ??= new Member(this.machine, scope, url));
  }

  began(): void {
    this.wires += 1;
  }

  ended(code: number): void {
    this.wires -= 1;
    // For good: closed by its owner, or sent away by the gateway. Whoever comes back ends with another code.
    if (this.wires > 0 || (code !== 1000 && code < GIVE_UP)) return;
    this.sharing = false;
    this.leave("the client is closed");
    this.watching?.abort();
    this.watching = null;
  }

  refuse(): void {
    this.alone = true;
    this.leave("not shared");
  }

  private leave(reason: string): void {
    this.member?.leave(reason);
    this.member = null;
  }

  /** A page that is put away does nothing for others, and is to hold nothing that keeps it from being put away. */
  private watch(): AbortController {
    const watching = new AbortController();
    const { window, document } = globalThis as { window?: Window; document?: Document };
    const watch = (where: EventTarget | undefined, away: string, back: string): void =>
      where?.addEventListener?.(
        away,
        () => {
          this.here = new Promise((resolve) => where.addEventListener(back, resolve, { once: true }));
          this.leave("the page is put away");
        },
        { signal: watching.signal },
      );
    watch(window, "pagehide", "pageshow");
    watch(document, "freeze", "resume");
    return watching;
  }
}

/** One dial of the client's: over a lane, or (`alone`) over a socket of its own. */
class SharedWire implements Wire, Dialling {
  private way: Way | null = null;
  private wire: Wire | null = null;
  private closed = false;

  constructor(
    private readonly sharing: Sharing,
    private readonly target: Target,
    private readonly events: WireEvents,
  ) {
    sharing.began();
    sharing.sharing = false;
    sharing.join(target).then(
      (member) => {
        if (this.closed) return;
        if (member === null) return this.dialAlone();
        sharing.sharing = true;
        member.dial(this);
      },
      () => this.dialAlone(),
    );
  }

  send(frame: ClientFrame): void {
    if (this.wire !== null) this.wire.send(frame);
    else this.way?.send(textOf(frame));
  }

  close(code: number, reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.wire?.close(code, reason);
    this.way?.close(reason);
    this.sharing.ended(code);
  }

  // --- Dialling ---

  take(way: Way): void {
    this.way = way;
  }

  opened(): void {
    if (!this.closed) this.events.opened();
  }

  text(text: string): void {
    if (this.closed) return;
    const frame = parseFrame(text);
    if (frame !== undefined) return this.events.frame(frame);
    // What we cannot read may have been an event: only a new connection is sure to bring it.
    this.way?.close("unreadable");
    this.over(BROKEN, "unreadable");
  }

  over(code: number, reason: string): void {
    if (this.closed) return;
    this.closed = true;
    if (code === ANOTHERS) this.sharing.refuse();
    this.sharing.ended(code);
    this.events.closed(code === ANOTHERS ? BROKEN : code, reason);
  }

  alone(): void {
    if (this.closed) return;
    this.way = null;
    this.sharing.refuse();
    this.dialAlone();
  }

  private dialAlone(): void {
    if (this.closed) return;
    this.sharing.sharing = false;
    this.wire = this.sharing.own.dial(this.target, { ...forwarding(this.events), closed: (code, reason) => this.over(code, reason) });
  }
}

const forwarding = (events: WireEvents): Pick<WireEvents, "opened" | "frame"> => ({
  opened: () => events.opened(),
  frame: (frame) => events.frame(frame),
});
