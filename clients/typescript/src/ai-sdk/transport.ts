import { Asking, type AskingOptions, feedOf, isOver, runOf } from "../feed/index.js";
import { type Client, FabricError, newId } from "../index.js";
import { type Asked, branches, type Outcome } from "../life/index.js";
import { Chunker } from "./chunks.js";
import { contentOf } from "./messages.js";
import { Mirror, type Mirrored } from "./mirror.js";
import { streamOf } from "./stream.js";
import type { ChatRequest, Chunk, SendRequest, UiMessage, UiPart } from "./words.js";

export interface TransportOptions extends AskingOptions {
  /**
   * What `chat.stop()`, and the unmounting of a hook that owns its chat, do to the run. Default `"detach"`: nothing, it
   * goes on, and other pages see it; `"interrupt"` and `"cancel"` stop it. `transport.stop(…)` always does.
   */
  readonly onAbort?: "detach" | "interrupt" | "cancel" | undefined;
}

/** A chat's session, and where the chat is in the run that it has read of last. */
interface Open {
  readonly asking: Asking;
  readonly mirrors: Set<Mirror>;
  /** It has been mirrored: when it is no more, its session is let go. */
  mirrored: boolean;
  /** What is being said, and streams that are being read. */
  busy: number;
  reading: { readonly run: string; readonly chunker: Chunker } | null;
  /** Looks no more whether it can be let go. */
  readonly off: () => void;
}

/**
 * A `ChatTransport` of the AI SDK (7, and 6) over sessions: the chat's id is the session's name. A run that goes on is
 * found again after a reload and from any device; of what pages answer exactly one answer counts.
 */
export class FabricChatTransport {
  /** What `reconnectToStream` returns begins at the run's beginning. */
  readonly resumeStreamIsReplay = true;
  private readonly chats = new Map<string, Open>();

  constructor(
    readonly client: Client,
    private readonly options: TransportOptions = {},
  ) {}

  /** Say what the chat says, or give what it has answered, and return what comes of it. */
  async sendMessages<Message extends UiMessage>(request: SendRequest<Message>): Promise<ReadableStream<Chunk>> {
    const { chatId, trigger, messages, messageId, abortSignal } = request;
    return this.reading(chatId, abortSignal, async (chat) => {
      const last = messages.at(-1);
      const continued = messages.find(({ id }) => id === messageId) ?? last;
      if (trigger === "submit-message" && continued?.role === "assistant" && chat.asking.feed.run(continued.id)) {
        return this.goOn(chat, continued, abortSignal);
      }
      const asked = messages.filter(({ role }) => role === "user").at(-1);
      if (asked === undefined) throw new FabricError("invalid_request", "The chat has nothing to send: there is no message of a user.");
      const event = trigger === "submit-message" ? await this.say(chat, asked) : await chat.asking.again(asked.id);
      return this.answers(chat, event, abortSignal);
    }) as Promise<ReadableStream<Chunk>>;
  }

  /** The stream of the newest run that goes on, from its beginning; null when none does. */
  async reconnectToStream({ chatId, abortSignal }: ChatRequest): Promise<ReadableStream<Chunk> | null> {
    return this.reading(chatId, abortSignal, async (chat) => {
      const run = chat.asking.feed.active;
      return run === undefined ? null : this.chunks(chat, run.id, abortSignal);
    });
  }

  /**
   * Stop the run that the chat shows, or the newest one, or the message that nobody has taken yet; resolves with what became
   * of that. Null: nothing goes on.
   */
  async stop(chatId: string, action: "interrupt" | "cancel" = "interrupt"): Promise<Outcome | null> {
    const { asking, reading } = this.chat(chatId);
    return asking.end(reading?.run, action);
  }

  /**
   * Have an idle chat show what other pages, devices and agents do in its session. Give the `Chat`, or a function that
   * returns the hook's newest helpers. The returned function ends it.
   */
  mirror<Message extends UiMessage>(chat: Mirrored<Message> | (() => Mirrored<Message>)): () => void {
    const current = (typeof chat === "function" ? chat : () => chat) as () => Mirrored<UiMessage>;
    const opened = this.chat(current().id);
    const { asking, mirrors } = opened;
    const mirror = new Mirror(asking.feed, current);
    mirrors.add(mirror);
    opened.mirrored = true;
    return () => {
      mirrors.delete(mirror);
      mirror.close();
      this.leave(opened);
    };
  }

  /** Let go of all sessions, those that were never mirrored too, and end the mirroring. The client stays as it is. */
  close(): void {
    for (const { mirrors, asking, off } of this.chats.values()) {
      off();
      for (const mirror of mirrors) mirror.close();
      asking.close();
    }
    this.chats.clear();
  }

  private chat(id: string): Open {
    const known = this.chats.get(id);
    if (known?.asking.feed.closed === false) return known;
    const asking = new Asking(feedOf(this.client.session(id)), this.options);
    const off = asking.feed.on("change", () => this.leave(chat));
    const chat: Open = { asking, mirrors: new Set<Mirror>(), mirrored: false, busy: 0, reading: null, off };
    this.chats.set(id, chat);
    return chat;
  }

  /** Let go of the session of a chat that is mirrored no more, once it has read all that there is of its run. */
  private leave(chat: Open): void {
    const { asking, mirrors, mirrored, busy, reading, off } = chat;
    const { session, conversation } = asking.feed;
    if (!mirrored || mirrors.size > 0 || busy > 0) return;
    if (reading !== null && !isOver(asking.feed.run(reading.run)) && conversation.error === null) return;
    if (this.chats.get(session.name) === chat) this.chats.delete(session.name);
    off();
    asking.close();
  }

  /** Open a chat's session, and make a stream of what is to be read there, null where there is nothing. */
  private async reading(id: string, signal: AbortSignal | undefined, begin: (chat: Open) => Promise<AsyncGenerator<Chunk[], void> | null>): Promise<ReadableStream<Chunk> | null> {
    const chat = this.chat(id);
    chat.busy += 1;
    let over = false;
    const done = (): void => {
      if (over) return;
      over = true;
      chat.busy -= 1;
      this.leave(chat);
    };
    try {
      await chat.asking.feed.ready(signal);
      const batches = await begin(chat);
      if (batches !== null) return streamOf(batches, signal, done);
    } catch (error) {
      done();
      throw error;
    }
    done();
    return null;
  }

  /** Append a user's message, as an edit where the log has another one of its id; returns the event's id. */
  private async say({ asking }: Open, message: UiMessage): Promise<string> {
    const content = contentOf(message);
    const before = asking.feed.conversation.messages.find(({ id }) => id === message.id);
    if (before === undefined || before.content === content) return asking.say(message.id, content);
    const { pool } = this.options;
    const id = newId("m");
    await branches(asking.feed.session).edit(before, content, { id, ...(pool ? { pool } : {}) });
    return id;
  }

  /** What is answered to an input: its run, or the run that it went into, or why there is none. */
  private async *answers(chat: Open, event: string, signal?: AbortSignal): AsyncGenerator<Chunk[], void> {
    const stop = async (): Promise<void> => this.aborted(chat, await runOf(event));
    signal?.addEventListener("abort", stop);
    let run: string;
    try {
      run = await chat.asking.run(event, signal);
    } catch (error) {
      if (!(error instanceof FabricError) || error.code !== "not_answered") throw error;
      return yield [{ type: "error", errorText: error.message }];
    } finally {
      signal?.removeEventListener("abort", stop);
    }
    yield* this.chunks(chat, run, signal);
  }

  /** Give what the page has answered in a run's message, and return how the run goes on. */
  private async goOn(chat: Open, message: UiMessage, signal?: AbortSignal): Promise<AsyncGenerator<Chunk[], void>> {
    const { asking } = chat;
    if (chat.reading?.run !== message.id) {
      const { chunker } = this.read(chat, message.id);
      chunker.write(asking.skip(message.id)); // the chat has it
      chunker.pause();
    }
    for (const part of message.parts as (UiPart & Partial<Answered>)[]) {
      const { state, toolCallId, output, errorText, approval, providerExecuted } = part;
      const open = asking.feed.requests.open.find(({ run, request, call = request }) => run === message.id && call === toolCallId);
      if (open === undefined || providerExecuted === true) continue;
      const { approved = false, reason } = approval ?? {};
      if (state === "approval-responded") await asking.answer(open.request, { body: { approved, ...(reason ? { comment: reason } : {}) } });
      else if (state === "output-available") await asking.answer(open.request, { body: output });
      else if (state === "output-error") await asking.answer(open.request, { error: String(errorText) });
    }
    return this.chunks(chat, message.id, signal, true);
  }

  private read(chat: Open, run: string): NonNullable<Open["reading"]> {
    return (chat.reading = { run, chunker: new Chunker({ actor: chat.asking.feed.run(run)?.agent }) });
  }

  /** The chunks of a run until it is over, or waits for this page. `on`: behind what the chat has read of it. */
  private async *chunks(chat: Open, run: string, signal?: AbortSignal, on = false): AsyncGenerator<Chunk[], void> {
    const { asking, mirrors } = chat;
    const { chunker } = on && chat.reading !== null ? chat.reading : this.read(chat, run);
    const stop = (): void => void this.aborted(chat, run);
    signal?.addEventListener("abort", stop);
    let whole = false;
    try {
      // Where all of it has been told, a step of its own keeps the chat from sending its answers again.
      if (on) yield [...chunker.start(run), ...(isOver(asking.feed.run(run)) ? [chunker.step()] : [])];
      for await (const told of asking.tell(run, signal, on)) {
        yield chunker.write(told.filter(({ asked }) => asked === undefined || asking.feed.requests.mine((asked as Asked).request)));
      }
      whole = signal?.aborted !== true;
      if (whole && !isOver(asking.feed.run(run))) yield [...asking.offered(run).flatMap((asked) => chunker.offer(asked)), ...chunker.pause()];
    } finally {
      signal?.removeEventListener("abort", stop);
      for (const mirror of mirrors) mirror.ended(run, whole && !chunker.stained);
    }
  }

  private async aborted({ asking, mirrors }: Open, run: string | undefined): Promise<void> {
    const { onAbort = "detach" } = this.options;
    if (run === undefined) return;
    for (const mirror of mirrors) mirror.leave(run);
    if (onAbort !== "detach") await asking.stop(run, onAbort).catch(() => undefined);
  }
}

interface Answered {
  readonly state: string;
  readonly toolCallId: string;
  readonly output: unknown;
  readonly errorText: string;
  readonly providerExecuted: boolean;
  readonly approval: { readonly approved?: boolean; readonly reason?: string };
}
