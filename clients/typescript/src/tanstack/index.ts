/** TanStack AI's chats over sessions. Of TanStack only types are imported. */
import type { StreamChunk } from "@tanstack/ai/client";
import type { RunAgentInputContext, SubscribeConnectionAdapter } from "@tanstack/ai-client";
import { aguiOf, Asking, type AskingOptions, feedOf, interruptsOf, isOver, runOf, snapshotOf, type Told, versionOf } from "../feed/index.js";
import { FabricError, type Session } from "../index.js";
import type { Outcome } from "../life/index.js";
import { contentOf, resultsOf, type Said } from "./messages.js";

export interface ConnectionOptions extends AskingOptions {
  /** What `stop()` of the chat does to the run. Default `"detach"`: nothing; `"interrupt"` and `"cancel"` stop it. */
  readonly onAbort?: "detach" | "interrupt" | "cancel" | undefined;
}

/** Something that the chat has sent, and the run that it is to be told of. */
interface Sent {
  /** The input's event, or the run that went on with what was answered. */
  readonly event?: string;
  readonly run?: string;
  readonly context: RunAgentInputContext | undefined;
  readonly signal: AbortSignal | undefined;
}

/** A session as a connection of TanStack's chats. */
export function fabricConnection(session: Session, options: ConnectionOptions = {}): FabricConnection {
  return new FabricConnection(session, options);
}

/**
 * `subscribe` has the session's messages, then every run, one after another, whoever asked for it; `send` says what is new
 * in the chat's messages, or gives what was answered. While something sent is under way the runs of others wait: their end
 * would end it in the chat.
 */
export class FabricConnection implements SubscribeConnectionAdapter {
  private asking: Asking | null = null;
  private readonly sent: Sent[] = [];
  /** By run: up to where it was told. */
  private readonly told = new Map<string, string>();
  /** Runs that the chat has turned away from. */
  private readonly left = new Set<string>();
  /** Messages whose text the chat has the beginning of. */
  private readonly begun = new Set<unknown>();
  private shown = "[]";
  /** Sends that the log does not have yet: what the chat shows of them must not be taken away. */
  private sending = 0;
  private current: string | null = null;
  private generation = 0;

  constructor(
    readonly session: Session,
    private readonly options: ConnectionOptions,
  ) {}

  readonly subscribe = (signal?: AbortSignal): AsyncIterable<StreamChunk> => this.all(signal) as AsyncIterable<unknown> as AsyncIterable<StreamChunk>;

  readonly send: SubscribeConnectionAdapter["send"] = async (messages, _data, signal, context) => {
    this.sending += 1;
    try {
      this.sent.push({ ...(await this.give(messages as unknown as readonly Said[], signal, context)), context, signal });
    } finally {
      this.sending -= 1;
      this.opened().feed.nudge();
    }
  };

  /** Say or answer what is new; returns the input's event, or the run that goes on. */
  private async give(said: readonly Said[], signal: AbortSignal | undefined, context: RunAgentInputContext | undefined): Promise<Pick<Sent, "event" | "run">> {
    const asking = this.opened();
    const { feed } = asking;
    await feed.ready(signal);
    const answered = await this.answer(asking, said, context);
    if (answered !== null) return { run: answered };
    const known = new Set(feed.conversation.messages.map(({ id }) => id));
    const asked = said.filter(({ role }) => role === "user");
    const last = asked.at(-1);
    if (last === undefined) throw new FabricError("invalid_request", "There is nothing to send: there is no message of a user.");
    let event: string | undefined;
    for (const message of asked) if (!known.has(message.id)) event = await asking.say(message.id, contentOf(message));
    return { event: event ?? (await asking.again(last.id)) };
  }

  /**
   * Stop the run that is shown, or the newest one, or the message that nobody has taken yet; resolves with what became of
   * that. Null: nothing goes on.
   */
  async stop(action: "interrupt" | "cancel" = "interrupt"): Promise<Outcome | null> {
    return this.opened().end(this.current, action);
  }

  /** Let go of the session. */
  close(): void {
    this.asking?.close();
    this.asking = null;
  }

  private opened(): Asking {
    if (this.asking?.feed.closed !== false) this.asking = new Asking(feedOf(this.session), this.options);
    return this.asking as Asking;
  }

  // --- what comes ---

  private async *all(signal?: AbortSignal): AsyncGenerator<Told, void> {
    const asking = this.opened();
    const { feed } = asking;
    const late: Told[] = [];
    try {
      await feed.ready(signal);
      for (;;) {
        const next = await feed.until(() => this.sent.shift() ?? this.others(asking), signal);
        if (next === "messages") yield this.snapshot(asking);
        else if (typeof next === "string") yield* this.follow(asking, next, next, { signal, late });
        else {
          yield* this.own(asking, next, signal);
          yield* late.splice(0);
        }
      }
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
  }

  /** What there is of others: a run that has more to tell, or messages that were not shown. */
  private others({ feed }: Asking): string | undefined {
    if (this.sending > 0) return undefined;
    const run = feed.active?.id;
    if (run !== undefined && !this.left.has(run) && this.told.get(run) !== versionOf(feed.now(run))) return run;
    return this.version(feed.conversation.path) === this.shown ? undefined : "messages";
  }

  private snapshot({ feed }: Asking): Told {
    this.shown = this.version(feed.conversation.path);
    return { type: "MESSAGES_SNAPSHOT", messages: snapshotOf(feed.conversation.path) };
  }

  private version(messages: Asking["feed"]["conversation"]["path"]): string {
    const { runs } = this.opened().feed.conversation;
    const still = messages.filter(({ run }) => run === null || isOver(runs.get(run)));
    return JSON.stringify(still.map(({ id, last }) => [id, last]));
  }

  private async *own(asking: Asking, { event, run, context, signal: abort }: Sent, signal?: AbortSignal): AsyncGenerator<Told, void> {
    const as = context?.runId;
    const parent = context?.parentRunId;
    let found = run;
    const stop = (): void => void this.aborted(asking, found, event);
    abort?.addEventListener("abort", stop);
    if (abort?.aborted) stop();
    const both = either(signal, abort);
    try {
      found ??= await asking.run(event as string, both);
      this.current = found;
      yield* this.follow(asking, found, as ?? found, { signal: both, on: run !== undefined, parent });
    } catch (error) {
      if (abort?.aborted !== true) throw error;
    } finally {
      abort?.removeEventListener("abort", stop);
    }
  }

  /** Tell a run under the id by which the chat knows it. `late`: where the end of another's waits for what was sent meanwhile. */
  private async *follow(
    asking: Asking,
    run: string,
    as: string,
    { signal, on = false, parent, late }: { signal?: AbortSignal | undefined; on?: boolean; parent?: string | undefined; late?: Told[] },
  ): AsyncGenerator<Told, void> {
    const { feed } = asking;
    const ids = { threadId: feed.session.name, runId: as, ...(parent ? { parentRunId: parent } : {}) };
    const others = () => feed.conversation.path.filter((message) => message.run !== run);
    const ends: Told[] = [];
    // What has been told by now: more may come while the chat reads the last of it.
    const mark = () => ({ run: versionOf(feed.now(run)), shown: this.version(feed.conversation.path) });
    let seen: ReturnType<typeof mark> | undefined;
    if (on) yield { type: "RUN_STARTED", ...ids };
    for await (const told of asking.tell(run, signal, on)) {
      const events = aguiOf(told, others);
      if (events.some(({ type }) => type === "RUN_FINISHED" || type === "RUN_ERROR")) seen = mark();
      for (const event of events) {
        if (event.type === "RUN_STARTED") {
          if (on) continue;
          yield { ...event, ...ids };
          if (late !== undefined) yield { type: "MESSAGES_SNAPSHOT", messages: snapshotOf(others()) };
        } else if (/^RUN_/.test(event.type)) ends.push({ ...event, ...ids });
        else if (!this.isShown(event) || !on) yield event;
      }
    }
    if (signal?.aborted === true) return;
    seen ??= mark();
    if (ends.length === 0) {
      yield* aguiOf(asking.pause(), others);
      yield* this.paused(asking, run, ids);
    }
    this.told.set(run, seen.run);
    this.shown = seen.shown;
    if (late !== undefined && this.sent.length > 0) late.push(...ends);
    else yield* ends;
  }

  /** Whether this begins a text that the chat shows: begun again it would lose what it has. */
  private isShown({ type, messageId }: Told): boolean {
    if (type === "MESSAGES_SNAPSHOT") this.begun.clear();
    if (type !== "TEXT_MESSAGE_START") return false;
    const shown = this.begun.has(messageId);
    this.begun.add(messageId);
    return shown;
  }

  /** The end of the stream, though not of the run: it waits for this page. */
  private *paused(asking: Asking, run: string, ids: { threadId: string; runId: string }): Generator<Told, void> {
    const offered = asking.offered(run);
    const questions = offered.filter(({ request }) => request.kind !== "tool");
    for (const { request } of offered) {
      if (request.kind !== "tool") continue;
      yield { type: "CUSTOM", name: "tool-input-available", value: { toolCallId: request.call, toolName: request.tool, input: request.args } };
    }
    if (questions.length === 0) return yield { type: "RUN_FINISHED", ...ids, outcome: { type: "success" } };
    const generation = (this.generation += 1);
    // Without the answers' schemas, which the chat would hold to more than JSON Schema: the gateway checks the answer.
    const interrupts = interruptsOf(questions).map(({ responseSchema: _schema, ...interrupt }) => {
      const binding = { v: 1, kind: "generic", interruptId: interrupt.id, interruptedRunId: ids.runId, generation };
      return { ...interrupt, metadata: { ...interrupt.metadata, "tanstack:interruptBinding": binding } };
    });
    yield { type: "RUN_FINISHED", ...ids, outcome: { type: "interrupt", interrupts } };
  }

  // --- what is answered ---

  /** Give what the chat has answered; returns the run that had asked, null where nothing did. */
  private async answer(asking: Asking, messages: readonly Said[], context: RunAgentInputContext | undefined): Promise<string | null> {
    const { feed } = asking;
    let run: string | null = null;
    for (const { interruptId, status, payload } of context?.resume ?? []) {
      run = feed.runOfRequest(interruptId) ?? run;
      await asking.answer(interruptId, { body: status === "cancelled" ? { approved: false } : payload });
    }
    for (const result of resultsOf(messages)) {
      const open = feed.requests.open.find(({ call }) => call === result.call);
      if (open === undefined) continue;
      run = open.run;
      await asking.answer(open.request, result.error === undefined ? { body: result.output } : { error: result.error });
    }
    return run;
  }

  /** `event`: the input that is to be answered, where no run does yet. */
  private async aborted(asking: Asking, begun: string | undefined, event: string | undefined): Promise<void> {
    const { onAbort = "detach" } = this.options;
    const run = begun ?? (event === undefined || onAbort === "detach" ? undefined : await runOf(event));
    if (run === undefined) return;
    this.left.add(run);
    if (onAbort !== "detach") await asking.stop(run, onAbort).catch(() => undefined);
  }
}

/** A signal that is aborted with the first of two. */
function either(one: AbortSignal | undefined, other: AbortSignal | undefined): AbortSignal {
  const stop = new AbortController();
  for (const signal of [one, other]) {
    if (signal?.aborted) stop.abort();
    signal?.addEventListener("abort", () => stop.abort(), { signal: stop.signal });
  }
  return stop.signal;
}
