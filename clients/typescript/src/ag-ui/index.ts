/** AG-UI's agents over sessions. Needs `@ag-ui/client` and its `rxjs`. */
import { AbstractAgent, type AgentConfig, type BaseEvent, type Message, type RunAgentInput } from "@ag-ui/client";
import { Observable } from "rxjs";
import { aguiOf, Asking, type AskingOptions, feedOf, interruptsOf, snapshotOf, type Told } from "../feed/index.js";
import { FabricError, type Session } from "../index.js";
import type { Outcome } from "../life/index.js";

export interface FabricAgentConfig extends AgentConfig, AskingOptions {
  readonly session: Session;
}

/**
 * An AG-UI agent that is a session: `runAgent` says what is new in `messages` (or gives what `resume` and tool messages
 * answer) and follows the run; `connectAgent` has the session's messages and follows the run that goes on, from its
 * beginning. `detachActiveRun` leaves the run alive; `abortRun` stops it for everybody.
 */
export class FabricAgent extends AbstractAgent {
  private session: Session;
  private options: AskingOptions;
  private asking: Asking | null = null;
  private current: string | null = null;

  constructor({ session, pool, claims, ...config }: FabricAgentConfig) {
    super({ threadId: session.name, ...config });
    this.session = session;
    this.options = { pool, claims };
  }

  override run(input: RunAgentInput): Observable<BaseEvent> {
    return this.observable((asking, signal) => this.ask(asking, input, signal));
  }

  protected override connect(input: RunAgentInput): Observable<BaseEvent> {
    return this.observable((asking, signal) => this.attach(asking, input, signal));
  }

  /** Have what is there, and follow what goes on; interrupts that are open are told anew. */
  override connectAgent(...args: Parameters<AbstractAgent["connectAgent"]>): ReturnType<AbstractAgent["connectAgent"]> {
    this.pendingInterrupts = [];
    return super.connectAgent(...args);
  }

  /** Stop the run; the stream ends when it has ended. `stop` says what becomes of it. */
  override abortRun(): void {
    this.stop().catch(() => undefined);
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

  override clone(): FabricAgent {
    const clone = super.clone() as FabricAgent;
    Object.assign(clone, { session: this.session, options: this.options, asking: null, current: this.current });
    return clone;
  }

  private opened(): Asking {
    if (this.asking?.feed.closed !== false) this.asking = new Asking(feedOf(this.session), this.options);
    return this.asking as Asking;
  }

  private observable(batches: (asking: Asking, signal: AbortSignal) => AsyncGenerator<Told[], void>): Observable<BaseEvent> {
    return new Observable((subscriber) => {
      const stop = new AbortController();
      const read = async (): Promise<void> => {
        const asking = this.opened();
        await asking.feed.ready(stop.signal);
        for await (const batch of batches(asking, stop.signal)) for (const event of batch) subscriber.next(event as unknown as BaseEvent);
        subscriber.complete();
      };
      read().catch((error: unknown) => subscriber.error(error));
      return () => stop.abort();
    });
  }

  private async *ask(asking: Asking, input: RunAgentInput, signal: AbortSignal): AsyncGenerator<Told[], void> {
    const answered = await this.answer(asking, input);
    if (answered !== null) return yield* this.follow(asking, answered, signal, true);
    const { messages } = asking.feed.conversation;
    const fresh = input.messages.filter(({ id, role }) => role === "user" && !messages.some((known) => known.id === id));
    const last = input.messages.filter(({ role }) => role === "user").at(-1);
    if (last === undefined) throw new FabricError("invalid_request", "There is nothing to run: no message of a user is new, and no answer is wanted.");
    let event = "";
    for (const message of fresh) event = await asking.say(message.id, (message as Message & { content: unknown }).content);
    if (event === "") event = await asking.again(last.id);
    yield* this.follow(asking, await asking.run(event, signal), signal, false);
  }

  /** Give what the input answers; returns the run that had asked, null where nothing did. */
  private async answer(asking: Asking, input: RunAgentInput): Promise<string | null> {
    const { feed } = asking;
    let run: string | null = null;
    for (const { interruptId, status, payload } of input.resume ?? []) {
      const open = feed.requests.get(interruptId);
      run = open?.run ?? feed.runOfRequest(interruptId) ?? run;
      if (open === undefined) continue;
      const cancelled = open.kind === "tool" ? { error: "cancelled" } : { body: { approved: false } };
      await asking.answer(interruptId, status === "cancelled" ? cancelled : { body: payload });
    }
    for (const message of input.messages) {
      if (message.role !== "tool") continue;
      const open = feed.requests.open.find(({ call }) => call === message.toolCallId);
      if (open === undefined) continue;
      run = open.run;
      await asking.answer(open.request, message.error ? { error: message.error } : { body: parsed(message.content) });
    }
    return run;
  }

  private async *attach(asking: Asking, input: RunAgentInput, signal: AbortSignal): AsyncGenerator<Told[], void> {
    const { feed } = asking;
    const run = feed.active?.id;
    if (run !== undefined) return yield* this.follow(asking, run, signal, false, true);
    const ids = { threadId: input.threadId, runId: input.runId };
    const messages = snapshotOf(feed.conversation.path);
    yield [{ type: "RUN_STARTED", ...ids }, { type: "MESSAGES_SNAPSHOT", messages }, { type: "RUN_FINISHED", ...ids, outcome: { type: "success" } }];
  }

  private async *follow(asking: Asking, run: string, signal: AbortSignal, on: boolean, history = false): AsyncGenerator<Told[], void> {
    const { feed } = asking;
    const ids = { threadId: feed.session.name, runId: run };
    const others = () => feed.conversation.path.filter((message) => message.run !== run);
    let snapshot = history;
    let over = false;
    this.current = run;
    if (on) yield [{ type: "RUN_STARTED", ...ids }];
    for await (const told of asking.tell(run, signal, on)) {
      const events = aguiOf(on ? told.filter(({ type }) => type !== "RUN_STARTED") : told, others);
      // The others' messages, behind the start that has to be first.
      if (snapshot) events.splice(1, 0, { type: "MESSAGES_SNAPSHOT", messages: snapshotOf(others()) });
      snapshot = false;
      over = events.some(({ type }) => type === "RUN_FINISHED" || type === "RUN_ERROR");
      yield events;
    }
    if (over || signal.aborted) return;
    const offered = asking.offered(run);
    const tools = offered.every(({ request }) => request.kind === "tool");
    const pendingToolCallIds = offered.flatMap(({ request }) => request.call ?? []);
    const outcome = tools ? { type: "success", pendingToolCallIds } : { type: "interrupt", interrupts: interruptsOf(offered) };
    yield [...aguiOf(asking.pause(), others), { type: "RUN_FINISHED", ...ids, outcome }];
  }
}

function parsed(content: unknown): unknown {
  try {
    return JSON.parse(String(content));
  } catch {
    return content;
  }
}
