import { type FabricError, type Member, type Session, type Signal } from "../index.js";
import { Changing } from "./changing.js";
import { Present } from "./present.js";

/** What we say of ourselves. */
export interface OwnPresence {
  readonly data?: Readonly<Record<string, unknown>>;
  /** `thinking`, `tool`, `waiting`, `idle`, or null. */
  readonly status?: string | null;
}

/** How long somebody counts as typing after the last sign of it; signals come at most this often, less a second. */
const TYPING_MS = 4_000;

/** Who has the session open, who is typing, and what we say of ourselves. The session must be open. */
export function presence(session: Session): Presence {
  return new Presence(session);
}

export class Presence extends Changing {
  private readonly present = new Present();
  private readonly typists = new Map<string, number>();
  private toldTyping = 0;
  private own: OwnPresence | null = null;

  constructor(readonly session: Session) {
    super();
    this.offs.push(
      session.on("events", (events) => {
        let news = false;
        for (const event of events) {
          if (event.type.startsWith("presence.")) news = this.present.add(event) || news;
          if (event.type === "message.user" || event.type === "message.completed") news = this.said(event.actor) || news;
        }
        if (news) this.changed();
      }),
      session.on("live", () => {
        this.look();
        // The new connection knows only what `open` says of us.
        if (this.own !== null) this.tell(this.own).catch(() => undefined);
      }),
      session.on("signal", (signal) => this.signalled(signal)),
    );
    if (session.live) this.look();
  }

  /** Who is there, each participant once, however many devices; the longest there first. */
  get members(): readonly Member[] {
    return this.present.participants;
  }

  get devices(): readonly Member[] {
    return this.present.devices;
  }

  /** Others who are typing now. */
  get typing(): readonly string[] {
    const now = Date.now();
    return [...this.typists].filter(([, until]) => until > now).map(([actor]) => actor);
  }

  /** Ask the gateway who has the session open, on whatever gateway; needs no open session. */
  async who(): Promise<readonly Member[]> {
    return (await this.session.ask<{ members: Member[] }>("who", {}, "GET /presence")).members;
  }

  /** Show ourselves to the others, or something else of us; said again on every new connection. Throws `unsupported` without a WebSocket. */
  async update(own: OwnPresence): Promise<void> {
    this.own = { ...this.own, ...own };
    await this.tell(this.own);
  }

  /** Be seen no more, with the session still open. */
  async leave(): Promise<void> {
    this.own = null;
    await this.session.ask("presence", { leave: true });
  }

  /** Let the others know that we are typing. Call it at every key: it tells them now and then. */
  startedTyping(): void {
    const now = Date.now();
    if (now - this.toldTyping < TYPING_MS - 1_000) return;
    this.toldTyping = now;
    this.session.signal({ type: "typing" });
  }

  private async tell(own: OwnPresence): Promise<void> {
    await this.session.ask("presence", { ...own });
  }

  private look(): void {
    // What the log says of who came and went is history; who is there now is asked.
    this.present.asking();
    this.who().then(
      (members) => {
        this.present.set(members);
        this.changed();
      },
      (_error: FabricError) => undefined, // asked again at the next `live`
    );
  }

  /** Who has said what it was typing types no more. */
  private said(actor: string): boolean {
    if (actor === this.session.client.participant) this.toldTyping = 0;
    return this.typists.delete(actor);
  }

  private signalled(signal: Signal): void {
    if (signal.body["type"] !== "typing" || signal.actor === this.session.client.participant) return;
    this.typists.set(signal.actor, Date.now() + TYPING_MS);
    setTimeout(() => this.changed(), TYPING_MS + 50);
    this.changed();
  }
}
