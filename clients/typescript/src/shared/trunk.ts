import { BROKEN, type End, LANES, STOPPING, type Way } from "./words.js";

/** Why a lane's owner lets go of it when it has waited in vain: not its own doing, perhaps. */
const IN_VAIN = ["silence", "no welcome"];
/** So long a socket must have been silent to count as dead when somebody has waited in vain. */
const SILENT_MS = 1_000;
/** So long a socket without lanes stays: who comes back needs no new one. */
const EMPTY_MS = 2_000;

export interface TrunkOwner {
  /** It takes no new lanes: the gateway sends everybody elsewhere. */
  leaving(trunk: Trunk): void;
}

/** The one socket to the gateway, with a lane for each that shares it (docs/protocol.md section 4, "Lanes"). */
export class Trunk {
  over = false;
  private readonly lanes = new Set<Numbered>();
  private readonly byNumber = new Map<number, Numbered>();
  private newest = 0;
  /** Whose the messages are that come, and those that we write. */
  private reading: number | null = null;
  private writing: number | null = null;
  /** When we first said something that nothing has come after. */
  private asked: number | null = Date.now();
  private open = false;
  private empty: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly socket: WebSocket,
    private readonly owner: TrunkOwner,
  ) {
    socket.onopen = () => this.opened();
    socket.onmessage = ({ data }) => this.received(String(data));
    socket.onclose = ({ code, reason }) => this.end(code, reason);
    socket.onerror = () => undefined; // `close` follows and says more
  }

  /** A new lane, opened when the socket is. */
  lane(end: End): Lane {
    const lane: Numbered = { end, number: null };
    this.lanes.add(lane);
    clearTimeout(this.empty);
    if (this.open) queueMicrotask(() => this.lanes.has(lane) && end.opened());
    return {
      send: (text) => this.write(lane, text),
      hold: () => this.write(lane, '"hold"'),
      go: () => this.write(lane, '"go"'),
      close: (reason) => this.left(lane, reason),
    };
  }

  /** Break the connection: what comes of its lanes is up to those who have them. */
  end(code = BROKEN, reason = ""): void {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.empty);
    this.socket.close(1000);
    for (const { end } of this.clear()) end.over(code, reason);
  }

  private opened(): void {
    if (this.over) return;
    this.open = true;
    if (this.socket.protocol !== LANES) {
      const lanes = this.clear();
      this.end();
      for (const { end } of lanes) end.alone();
      return;
    }
    for (const { end } of [...this.lanes]) end.opened();
  }

  private received(text: string): void {
    if (this.over) return;
    this.asked = null;
    const first = text.charCodeAt(0);
    if (first >= 48 && first <= 57) {
      this.reading = Number(text);
      return;
    }
    const lane = this.byNumber.get(this.reading ?? 0);
    if (text[0] !== '"') return lane?.end.text(text);
    if (lane !== undefined) this.forget(lane);
    const [, code, reason] = /^(\d+) ?(.*)$/s.exec(JSON.parse(text) as string) ?? [];
    if (Number(code) === STOPPING) this.owner.leaving(this);
    lane?.end.over(Number(code ?? BROKEN), reason ?? "");
    this.look();
  }

  private left(lane: Numbered, reason: string): void {
    if (!this.lanes.has(lane)) return;
    if (lane.number !== null) this.write(lane, '"leave"');
    this.forget(lane);
    if (reason === "moved") this.owner.leaving(this);
    const silentMs = this.asked === null ? 0 : Date.now() - this.asked;
    if (IN_VAIN.includes(reason) && silentMs >= SILENT_MS) return this.end(BROKEN, reason);
    this.look();
  }

  private look(): void {
    if (this.lanes.size > 0 || this.over) return;
    clearTimeout(this.empty);
    this.empty = setTimeout(() => this.lanes.size === 0 && this.end(), EMPTY_MS);
  }

  private write(lane: Numbered, text: string): void {
    if (!this.open || this.over || !this.lanes.has(lane)) return;
    const number = (lane.number ??= this.begin(lane));
    if (this.writing !== number) this.socket.send(String(number));
    this.writing = number;
    this.socket.send(text);
    this.asked ??= Date.now();
  }

  /** A number above all that the gateway has seen, else it takes the lane for one that has ended. */
  private begin(lane: Numbered): number {
    this.byNumber.set((this.newest += 1), lane);
    return this.newest;
  }

  private forget(lane: Numbered): void {
    this.lanes.delete(lane);
    if (lane.number !== null) this.byNumber.delete(lane.number);
  }

  private clear(): Numbered[] {
    const lanes = [...this.lanes];
    this.lanes.clear();
    this.byNumber.clear();
    return lanes;
  }
}

/** A lane; it gets its number with the first that is said on it: who was there first need not be who speaks first. */
interface Numbered {
  readonly end: End;
  number: number | null;
}

export interface Lane extends Way {
  /** Nothing more is to come until `go`. */
  hold(): void;
  go(): void;
}
