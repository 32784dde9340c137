import { type Conversation, type FabricEvent, FabricError, type Message, type Offset, type Run, type Session } from "../index.js";
import { type Agents, agents, arrange, Changing, type OpenRequests, RequestFold, requests } from "../life/index.js";
import { type RunNow, Teller, type Told } from "./telling.js";

/** A run's events that messages do not show (state, steps, custom): so many of the newest are kept while it goes on. */
const MAX_PASSING = 1_000;
const PASSING = /^(STATE_|STEP_|ACTIVITY_|CUSTOM$|RAW$)/;
const INPUT = /^message\.(user|regenerate)$/;
const SETTLED = /^message\.(steered|rejected|expired)$/;
const OVER: ReadonlySet<string> = new Set(["completed", "cancelled", "failed"]);

/** Whether nothing more of the run will come. An orphaned one may be taken over yet. */
export const isOver = (run: Run | undefined): boolean => run !== undefined && OVER.has(run.state);

/**
 * One session as all that show it in this page read it: one subscription, however many frameworks and components.
 * Tells `change` after each batch of events, at once.
 */
export class Feed extends Changing {
  readonly conversation: Conversation;
  /** Claims and answers. */
  readonly requests: OpenRequests;
  /** Those that have lost their connection. */
  readonly agents: Agents;
  private readonly asked = new RequestFold();
  private readonly passing = new Map<string, FabricEvent[]>();
  /** Tool calls whose arguments are complete. */
  private readonly called = new Set<unknown>();
  /** Offsets of inputs, by event. */
  private readonly inputs = new Map<unknown, Offset>();
  /** By input: that it got no run of its own. */
  private readonly settled = new Map<unknown, FabricEvent>();
  private users = 0;
  /** Messages as they are now, by run: of a long session no run is to be looked for in all of it. */
  private byRun: { readonly of: readonly Message[]; readonly runs: ReadonlyMap<string | null, readonly Message[]> } = { of: [], runs: new Map() };

  constructor(readonly session: Session) {
    super();
    this.requests = requests(session);
    this.agents = agents(session);
    this.offs.push(
      () => this.requests.close(),
      () => this.agents.close(),
      session.on("events", (events) => this.take(events)),
      session.on("live", () => this.changed()),
      session.on("ended", () => this.changed()),
      this.requests.on("change", () => this.changed()),
    );
    this.conversation = session.conversation({ arrange });
    this.offs.push(() => this.conversation.close());
  }

  /** Be one of those who use it; the returned function ends that, and with the last one the feed. */
  use(): () => void {
    this.users += 1;
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      this.users -= 1;
      // A component that is mounted anew, or another one, takes it over as it is.
      setTimeout(() => this.users === 0 && this.close(), 0);
    };
  }

  get closed(): boolean {
    return this.offs.length === 0;
  }

  /** Have everybody look again, though nothing has come. */
  nudge(): void {
    this.changed();
  }

  override close(): void {
    feeds.delete(this.session);
    super.close();
    this.changed();
  }

  /** A run as it is now. */
  now(run: string): RunNow {
    const { messages } = this.conversation;
    if (this.byRun.of !== messages) this.byRun = { of: messages, runs: byRun(messages) };
    return {
      run: this.run(run),
      messages: this.byRun.runs.get(run) ?? [],
      asked: this.asked.of(run),
      passing: this.passing.get(run) ?? [],
      isCalled: (call) => this.called.has(call),
    };
  }

  run(id: string): Run | undefined {
    return this.conversation.runs.get(id);
  }

  /** The newest run that goes on. */
  get active(): Run | undefined {
    return [...this.conversation.runs.values()].filter((run) => !isOver(run)).at(-1);
  }

  /** The newest input of which nothing is known yet, by its event. */
  get waiting(): string | undefined {
    const taken = new Set([...this.conversation.runs.values()].map(({ input }) => input));
    const waits = [...this.inputs].filter(([, input]) => !taken.has(input) && !this.settled.has(input)).at(-1);
    return waits && String(waits[0]);
  }

  /** What became of an input, by its event: the run that answers it or has taken it, or why none does. `early`: the run's id, where it is known. */
  outcomeOf(event: string, early?: string): { readonly run?: string; readonly why?: string } | undefined {
    const { runs } = this.conversation;
    if (early !== undefined && runs.has(early)) return { run: early };
    const input = this.inputs.get(event);
    if (input === undefined) return undefined;
    const run = [...runs.values()].find((run) => run.input === input);
    if (run !== undefined) return { run: run.id };
    const settled = this.settled.get(input);
    if (settled?.type === "message.steered") return { run: String(settled.body["run"]) };
    return settled && { why: `Nobody answers: ${settled.body["reason"] ?? settled.type}.` };
  }

  /** The run that has asked something. */
  runOfRequest(id: string): string | undefined {
    return this.asked.all.find(({ request }) => request.request === id)?.request.run;
  }

  /** Wait for something to be so. Throws why the session is over, and `aborted`. */
  async until<Result>(found: () => Result | undefined, signal?: AbortSignal): Promise<Result> {
    return new Promise((resolve, reject) => {
      let over = false;
      const look = (): void => {
        if (over) return;
        const { error } = this.conversation;
        const result = found();
        if (result !== undefined) end(() => resolve(result));
        else if (error !== null) end(() => reject(error));
        else if (this.closed) end(() => reject(new FabricError("closed", "The session's feed was closed.")));
      };
      const abort = (): void => end(() => reject(new FabricError("aborted", "The caller's signal called this off.")));
      const off = this.on("change", look);
      const end = (settle: () => void): void => {
        over = true;
        off();
        signal?.removeEventListener("abort", abort);
        settle();
      };
      signal?.addEventListener("abort", abort);
      if (signal?.aborted) abort();
      else look();
    });
  }

  /** Wait for history to be through. */
  async ready(signal?: AbortSignal): Promise<void> {
    await this.until(() => this.session.live || undefined, signal);
  }

  /**
   * Tell a run from its beginning, batch by batch as it is read, until its end has been told or `enough` says so. A slow
   * reader gets larger pieces, not a queue. `teller`: one that has told a part already. Ends when `signal` is aborted.
   */
  async *tell(run: string, signal?: AbortSignal, teller = new Teller(this.session.name, run), enough = (): boolean => false): AsyncGenerator<readonly Told[], void> {
    let told: readonly Told[] = [];
    // It is enough only where nothing is left to tell: while the reader had the last piece, more may have come.
    const step = (): true | undefined => {
      told = teller.tell(this.now(run));
      return told.length > 0 || teller.over || enough() || undefined;
    };
    try {
      do {
        await this.until(step, signal);
        if (told.length > 0) yield told;
      } while (!teller.over && told.length > 0);
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
  }

  private take(events: readonly FabricEvent[]): void {
    for (const event of events) {
      this.asked.add(event);
      const { type, run, body } = event;
      if (INPUT.test(type)) this.inputs.set(event.id, event.offset);
      if (SETTLED.test(type)) this.settled.set(body["input"], event);
      if (type === "TOOL_CALL_END") this.called.add(body["toolCallId"]);
      if (run !== null && (type === "RUN_FINISHED" || type === "RUN_ERROR")) this.passing.delete(run);
      else if (run !== null && PASSING.test(type)) this.keep(run, event);
    }
    this.changed();
  }

  private keep(run: string, event: FabricEvent): void {
    const kept = this.passing.get(run) ?? [];
    this.passing.set(run, kept);
    kept.push(event);
    if (kept.length > MAX_PASSING) kept.shift();
  }
}

function byRun(messages: readonly Message[]): Map<string | null, Message[]> {
  const runs = new Map<string | null, Message[]>();
  for (const message of messages) {
    const same = runs.get(message.run);
    if (same === undefined) runs.set(message.run, [message]);
    else same.push(message);
  }
  return runs;
}

const feeds = new WeakMap<Session, Feed>();

/** The session's feed. Opens the session, which nobody else may have open but by the feed's own `conversation`. */
export function feedOf(session: Session): Feed {
  const feed = feeds.get(session) ?? new Feed(session);
  feeds.set(session, feed);
  return feed;
}
