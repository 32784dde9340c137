import { newId } from "../index.js";
import type { Machine } from "./machine.js";
import { BROKEN, type Called, type End, type Said, type Told, type Way } from "./words.js";

/** So many characters are told at once as taken up. */
const TOLD_CHARACTERS = 16 * 1024;
/** So long the leading tab may take to give a sign of life after it was told something. */
const PATIENCE_MS = 1_500;

/** A tab's end of the channel to the one that leads. */
export class Follower implements Way {
  /** Who leads; null as long as nobody has answered. */
  leader: string | null = null;
  private readonly channel: BroadcastChannel;
  private readonly name: string;
  private readonly lives = new AbortController();
  /** Whether we have our lock. Who is called before would get it, and think that we are gone. */
  private alive = false;
  private had = 0;
  private waiting: ReturnType<typeof setTimeout> | undefined;
  private release: () => void = () => undefined;
  private closed = false;

  constructor(
    machine: Machine,
    scope: string,
    private readonly lobby: BroadcastChannel,
    private readonly end: End,
  ) {
    this.name = `${scope}:${newId("k")}`;
    this.channel = machine.channel(this.name);
    this.channel.onmessage = ({ data }) => this.told(data as Told);
    // The browser lets go of it when this tab ends, however it does: so the one that leads finds out.
    const living = (): Promise<void> => {
      this.alive = true;
      this.call();
      return new Promise((resolve) => (this.closed ? resolve() : (this.release = resolve)));
    };
    machine.locks.request(this.name, { signal: this.lives.signal }, living).catch(() => undefined);
  }

  /** Ask whoever leads for a lane. */
  call(): void {
    if (this.leader === null && this.alive && !this.closed) this.lobby.postMessage({ dial: this.name } satisfies Called);
  }

  send(text: string): void {
    this.say({ text });
    // A connection that is dead takes its client's patience; a tab that does nothing any more is known sooner.
    this.waiting ??= setTimeout(() => this.broken("the tab that leads does not answer"), PATIENCE_MS);
  }

  close(reason: string): void {
    if (this.closed) return;
    this.say({ bye: reason });
    this.stop();
  }

  broken(reason: string): void {
    if (this.closed) return;
    this.close(reason);
    this.end.over(BROKEN, reason);
  }

  private told(told: Told): void {
    if (this.closed) return;
    this.leader ??= told.from;
    if (told.from !== this.leader) return;
    clearTimeout(this.waiting);
    this.waiting = undefined;
    if ("text" in told) {
      this.end.text(told.text);
      this.had += told.text.length;
      if (this.had < TOLD_CHARACTERS || this.closed) return;
      this.say({ had: this.had });
      this.had = 0;
    } else if ("opened" in told) {
      this.end.opened();
    } else if ("over" in told) {
      this.stop();
      this.end.over(...told.over);
    } else if ("alone" in told) {
      this.stop();
      this.end.alone();
    }
  }

  private say(said: Omit<Said, "to"> & Partial<Said>): void {
    if (this.leader !== null && !this.closed) this.channel.postMessage({ ...said, to: this.leader });
  }

  private stop(): void {
    this.closed = true;
    clearTimeout(this.waiting);
    this.channel.close();
    this.lives.abort();
    this.release();
  }
}
