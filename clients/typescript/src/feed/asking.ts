import { FabricError, newId } from "../index.js";
import { type Asked, outcomeOf, type Outcome } from "../life/index.js";
import { Claims } from "./claims.js";
import { type Feed, isOver } from "./feed.js";
import { runOf } from "./ids.js";
import { Teller, type Told } from "./telling.js";

/** Who was first, or that nobody is asked any more: the run goes on with that. */
const TOO_LATE = /^(already_answered|already_claimed|request_closed|request_not_found)$/;

export interface AskingOptions {
  /** The pool whose agents answer. */
  readonly pool?: string | undefined;
  /** Which tools this page runs by itself: they are claimed first, so that one of several pages runs them. Default: all. */
  readonly claims?: ((tool: string) => boolean) | undefined;
}

/** A page that asks agents in one session, reads what they answer, and answers what they ask. */
export class Asking {
  private readonly claims: Claims;
  private readonly leave: () => void;
  /** Where it is in the run that it has read of last. */
  private reading: { readonly run: string; readonly teller: Teller } | null = null;

  constructor(
    readonly feed: Feed,
    private readonly options: AskingOptions,
  ) {
    this.claims = new Claims(feed);
    this.leave = feed.use();
  }

  close(): void {
    this.claims.close();
    this.leave();
  }

  /** Append a user's message, once however often it is said; returns its event. */
  async say(id: string, content: unknown): Promise<string> {
    const { pool } = this.options;
    await this.feed.session.append({ type: "message.user", message: { id, role: "user", content }, ...(pool ? { pool } : {}) }, { id });
    return id;
  }

  /** Have a message answered again; returns the event that asks for it. */
  async again(message: string): Promise<string> {
    const { pool } = this.options;
    const id = newId("e");
    await this.feed.session.append({ type: "message.regenerate", message, ...(pool ? { pool } : {}) }, { id });
    return id;
  }

  /** The run that answers an input, when there is one. Throws `not_answered` where none does, and `aborted`. */
  async run(event: string, signal?: AbortSignal): Promise<string> {
    const early = await runOf(event);
    const { run, why } = await this.feed.until(() => this.feed.outcomeOf(event, early), signal);
    if (run === undefined) throw new FabricError("not_answered", String(why));
    return run;
  }

  /** Give an answer, unless somebody was first. */
  async answer(request: string, given: { body: unknown } | { error: string }): Promise<void> {
    const { requests } = this.feed;
    if (requests.get(request) === undefined) return;
    try {
      if ("error" in given) await requests.fail(request, given.error);
      else await requests.answer(request, given.body);
    } catch (error) {
      if (!(error instanceof FabricError) || !TOO_LATE.test(error.code)) throw error;
    }
  }

  /**
   * What is told of a run until it is over, or waits for this page (`offered`). `on`: behind what it has read of it so
   * far, else from its beginning.
   */
  tell(run: string, signal?: AbortSignal, on = false): AsyncGenerator<readonly Told[], void> {
    const teller = on && this.reading?.run === run ? this.reading.teller : this.read(run);
    return this.feed.tell(run, signal, teller, () => this.offered(run).length > 0);
  }

  /** Take what there is to tell of a run up to now, which is known already. */
  skip(run: string): readonly Told[] {
    return this.read(run).tell(this.feed.now(run));
  }

  private read(run: string): Teller {
    const teller = new Teller(this.feed.session.name, run);
    this.reading = { run, teller };
    return teller;
  }

  /** Close what is open in what was told, since it pauses. */
  pause(): readonly Told[] {
    return this.reading?.teller.pause() ?? [];
  }

  /** What a suspended run asks of this page: of tools that are to be claimed, those that are. */
  offered(run: string): readonly Asked[] {
    const { run: now, asked } = this.feed.now(run);
    if (now?.state !== "suspended") return [];
    const { requests } = this.feed;
    // By what is known of our own answers too, which their events tell a moment later.
    const mine = asked.filter(({ request }) => requests.get(request.request) !== undefined && requests.mine(request));
    return mine.filter(({ request: { request, kind, tool = "" } }) => kind !== "tool" || this.options.claims?.(tool) === false || this.claims.held(request));
  }

  /**
   * Stop the run that is shown, else the newest one, else that of the newest message that nobody has taken: whoever comes
   * to it ends it at once, and only then is there an outcome. Null: there is none.
   */
  async end(shown: string | null | undefined, action: "interrupt" | "cancel"): Promise<Outcome | null> {
    const { feed } = this;
    await feed.ready();
    const run = feed.run(shown ?? "");
    const going = run !== undefined && !isOver(run) ? run : feed.active;
    if (going !== undefined) return this.stop(going.id, action);
    const { waiting } = feed;
    const early = waiting === undefined ? undefined : await runOf(waiting);
    return early === undefined || isOver(feed.run(early)) ? null : this.stop(early, action);
  }

  /** Ask a run to stop, begun or not; resolves with what became of that. */
  async stop(run: string, action: "interrupt" | "cancel" = "interrupt"): Promise<Outcome> {
    const { session } = this.feed;
    const id = newId("c");
    const outcome = outcomeOf(session, id);
    await session.control(action, run, { id });
    return outcome;
  }
}
