import { type Feed, isOver, versionOf } from "../feed/index.js";
import { contentOf, type Projected, project } from "./messages.js";
import type { UiMessage } from "./words.js";

/** What is needed of a `Chat`, or of the helpers that `useChat` returns. */
export interface Mirrored<Message extends UiMessage> {
  readonly id: string;
  readonly status: string;
  messages: Message[];
  setMessages?(messages: Message[]): void;
  resumeStream(): Promise<void>;
}

/** After the end of a stream the chat is busy with it for a moment more. */
const SETTLE_MS = 20;
const SETTLE_TRIES = 500;

/** Keeps an idle chat like the log: sets its messages, and has it resume the run that goes on. */
export class Mirror {
  /** By message: up to where this chat shows it. */
  private readonly seen = new Map<string, string>();
  /** Runs that the chat has turned away from: shown again when they are over. */
  private readonly left = new Set<string>();
  /** Runs as they were when it last looked. */
  private readonly projected = new Map<string, Projected>();
  private readonly off: () => void;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private closed = false;
  private resuming = false;

  constructor(
    private readonly feed: Feed,
    private readonly chat: () => Mirrored<UiMessage>,
  ) {
    this.off = feed.conversation.on("change", () => this.look());
    this.look();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.off();
  }

  /** A stream of the chat has ended; `whole`: with everything that there was to tell of its run. */
  ended(run: string, whole: boolean): void {
    if (whole) this.seen.set(run, versionOf(this.feed.now(run)));
    this.settle(SETTLE_TRIES);
  }

  /** The chat has turned away from a run. */
  leave(run: string): void {
    this.left.add(run);
  }

  /** Look whether there is something to show. */
  look(): void {
    const { feed } = this;
    const chat = this.chat();
    if (this.closed || this.resuming || !feed.session.live || /^(submitted|streaming)$/.test(chat.status)) return;
    const active = feed.active?.id;
    const resume = active !== undefined && !this.left.has(active) && this.seen.get(active) !== versionOf(feed.now(active));
    // A run that is resumed is told from its beginning; of one that the chat has left it keeps what it has.
    const now = project(feed, this.projected).filter(({ run }) => !resume || run !== active);
    const keep = new Set([...this.left].filter((run) => !isOver(feed.run(run))));
    const messages = merged(now, chat.messages, this.seen, keep, resume ? active : undefined);
    if (messages !== null) {
      if (chat.setMessages === undefined) chat.messages = messages;
      else chat.setMessages(messages);
    }
    for (const { message, last } of now) if (!keep.has(message.id)) this.seen.set(message.id, last);
    if (!resume) return;
    this.seen.set(active, versionOf(feed.now(active)));
    this.resuming = true;
    const done = (): void => {
      this.resuming = false;
      this.settle(SETTLE_TRIES);
    };
    chat.resumeStream().then(done, done);
  }

  private settle(tries: number): void {
    clearTimeout(this.timer);
    if (this.closed || tries === 0) return;
    this.timer = setTimeout(() => (/^(submitted|streaming)$/.test(this.chat().status) ? this.settle(tries - 1) : this.look()), SETTLE_MS);
  }
}

/**
 * The messages that a chat is to show, or null where it shows them. A rule. What the chat has shown as it is in the log
 * stays the same object; what the log does not know (yet) stays behind the rest. `keep`: messages that stay as the chat
 * has them. `anew`: a run that is told from its beginning again.
 */
export function merged(
  now: readonly Projected[],
  shown: readonly UiMessage[],
  seen: ReadonlyMap<string, string>,
  keep: ReadonlySet<string>,
  anew?: string,
): UiMessage[] | null {
  const own = new Map(shown.map((message) => [message.id, message]));
  const known = new Set(now.map(({ message }) => message.id));
  const messages = now.flatMap(({ message, last }) => {
    const mine = own.get(message.id);
    if (keep.has(message.id)) return mine ?? [];
    if (mine === undefined) return message;
    if (seen.has(message.id)) return seen.get(message.id) === last ? mine : message;
    // What this chat has sent has come back.
    return message.role === "user" && JSON.stringify(contentOf(mine)) === JSON.stringify(contentOf(message)) ? mine : message;
  });
  for (const message of shown) if (!known.has(message.id) && !seen.has(message.id) && message.id !== anew) messages.push(message);
  const same = messages.length === shown.length && messages.every((message, n) => message === shown[n]);
  return same ? null : messages;
}
