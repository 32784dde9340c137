import type { Body, FabricEvent, Offset } from "../words.js";
import { type Delivery, ENDED, GrowingCall, GrowingMessage, type Message, type Run, type RunState } from "./messages.js";
import type { Text } from "./text.js";
import type { Arrange, Siblings, Tree } from "./tree.js";

type Fields = Readonly<Record<string, unknown>>;

/** What is left of a message. The fabric's own, so that it is what it has to be. */
interface RedactedBody {
  readonly message: string;
  readonly calls: readonly string[];
  readonly left: Pick<GrowingMessage, "first" | "last" | "actor" | "role" | "run" | "done" | "said"> & { readonly parent?: string | null };
}

/**
 * Events to messages (docs/protocol.md, "Folding events to messages"): the same rules as the Python SDK's, checked by
 * the same transcripts.
 *
 * What comes out depends on what the log holds and not on how it arrived: an event folded twice changes nothing, and
 * a rewind may bring earlier events late. An id belongs to whoever used it first in the log.
 */
export class Fold {
  private readonly drafts = new Map<string, GrowingMessage>();
  private readonly calls = new Map<string, GrowingCall>();
  private readonly runsById = new Map<string, Run>();
  /** The events of each run's life, by offset. */
  private readonly lives = new Map<string, Map<Offset, FabricEvent>>();
  private readonly built = new Map<string, Message>();
  /** By run and message: since when it is of a failed attempt. */
  private readonly gone = new Map<string, Offset>();
  private readonly selected = new Map<Offset, string>();
  /** What became of messages, and wishes to have them answered again. */
  private readonly settled = new Map<unknown, FabricEvent[]>();
  /** Null: to be worked out anew, and the order of those that are shown with it. */
  private tree: Tree | null | undefined = null;
  private shown: readonly GrowingMessage[] = [];
  private list: readonly Message[] | null = null;

  /** `arrange`: of `@session-fabric/client/life`, where alternatives of messages are of interest; else all are shown in a row. */
  constructor(private readonly arrange?: Arrange) {}

  get runs(): ReadonlyMap<string, Run> {
    return this.runsById;
  }

  /** All messages in order of first appearance, but for those superseded. What has not changed is the same object as before. */
  get messages(): readonly Message[] {
    void this.branches; // the order
    return (this.list ??= this.shown.map((draft) => this.message(draft)));
  }

  /** The messages that a chat shows: of alternatives the selected one, else the newest. */
  get path(): readonly Message[] {
    const path = this.branches?.path;
    return path === undefined ? this.messages : this.messages.filter(({ id }) => path.has(id));
  }

  /** What failed attempts of steps have said. */
  get superseded(): readonly Message[] {
    return this.those(true).map((draft) => this.message(draft));
  }

  /** The alternatives of a message, itself among them. */
  siblings(id: string): Siblings {
    return this.branches?.siblings(id) ?? { ids: [id], index: 0 };
  }

  has(id: string): boolean {
    return this.drafts.has(id);
  }

  /** Fold one event. Types that messages do not need, and bodies without ids, change nothing. */
  add(event: FabricEvent): void {
    const handler = HANDLERS[event.type] ?? (RUN_STATES[event.type] && "run");
    if (!handler) return;
    this.list = null;
    this[handler](event, event.body);
  }

  // --- handlers, by type ---

  textStarted(event: FabricEvent, body: Body): void {
    const draft = this.draft(event, body["messageId"]);
    if (draft !== null && draft.done === null) draft.role = text(body["role"]) || "assistant";
  }

  textDelta(event: FabricEvent, body: Body): void {
    const draft = this.draft(event, body["messageId"]);
    if (draft === null) return;
    draft.role ||= "assistant";
    put(draft.text, event, body);
  }

  reasoning(event: FabricEvent, body: Body): void {
    const draft = this.draft(event, body["messageId"]);
    if (draft === null) return;
    draft.thinks = true;
    if (event.type === "REASONING_MESSAGE_CONTENT") put(draft.reasoning, event, body);
  }

  touched(event: FabricEvent, body: Body): void {
    this.draft(event, body["messageId"]);
  }

  snapshot(event: FabricEvent, body: Body): void {
    const message = fields(body["message"]);
    const draft = this.draft(event, message["id"]);
    if (draft === null || draft.done !== null) return;
    draft.begin(body["began"]);
    this.tree = null;
    const { content, reasoning } = split(message);
    draft.role = text(message["role"]) || draft.role || "assistant";
    draft.text.cover(text(content));
    draft.reasoning.cover(reasoning);
    for (const { call, args } of this.toolCalls(draft, message) ?? []) call.args.cover(args);
  }

  completed(event: FabricEvent, body: Body): void {
    const said = event.type === "message.user";
    const message = fields(body["message"]);
    const draft = this.draft(event, message["id"], said);
    if (draft === null || (draft.done !== null && event.offset < draft.done)) return;
    const { content, reasoning } = split(message);
    draft.done = event.offset;
    if (said) {
      const { parent } = body;
      draft.named = parent === null || typeof parent === "string" ? parent : undefined;
    } else {
      draft.begin(body["began"]);
    }
    this.tree = null;
    draft.role = said ? "user" : text(message["role"]) || draft.role || "assistant";
    draft.text.finish(text(content));
    draft.parts = Array.isArray(content) && content.length > 0 ? content : null;
    draft.reasoning.finish(reasoning);
    const calls = this.toolCalls(draft, message);
    draft.listed = calls?.map(({ call }) => call.id) ?? null;
    for (const { call, name, args } of calls ?? []) {
      call.name = name || call.name;
      call.args.finish(args);
    }
  }

  /** Put what its event says of a message in the place of what the message said; the first such event counts. */
  redacted(event: FabricEvent, body: Body): void {
    const { message, calls, left } = body as unknown as RedactedBody;
    const redacted = event.offset;
    if ((this.drafts.get(message)?.redacted ?? redacted) < redacted) return;
    for (const call of calls) this.calls.delete(call);
    this.built.clear();
    this.tree = null;
    const draft = new GrowingMessage(message, event, left.said);
    this.drafts.set(message, Object.assign(draft, left, { named: left.parent, ts: null, redacted }));
  }

  toolStarted(event: FabricEvent, body: Body): void {
    const id = body["toolCallId"];
    if (typeof id !== "string") return;
    // AG-UI: a call without a parent makes a message of its own.
    const draft = this.draft(event, body["parentMessageId"] || id);
    if (draft === null) return;
    const call = this.call(id, draft);
    call.name ||= text(body["toolCallName"]);
    if (!draft.attached.has(id)) draft.attached.set(id, event.offset);
  }

  toolDelta(event: FabricEvent, body: Body): void {
    const id = body["toolCallId"];
    if (typeof id === "string") put(this.call(id).args, event, body);
  }

  toolEnded(_event: FabricEvent, body: Body): void {
    const { toolCallId: id, args } = body;
    // `args`, the fabric's addition to AG-UI's event, makes up for deltas that are gone.
    if (typeof id === "string" && typeof args === "string") this.call(id).args.finish(args);
  }

  toolResult(event: FabricEvent, body: Body): void {
    const id = body["toolCallId"];
    if (typeof id !== "string") return;
    const call = this.call(id);
    if (call.resultAt !== null && event.offset < call.resultAt) return;
    call.result = body["content"] ?? null;
    call.resultAt = event.offset;
  }

  run(event: FabricEvent, body: Body): void {
    const id = event.run || body["run"] || body["runId"];
    if (typeof id !== "string") return;
    const life = this.lives.get(id) ?? new Map<Offset, FabricEvent>();
    this.lives.set(id, life.set(event.offset, event));
    this.runsById.set(id, runOf(id, life));
    if (event.type === "RUN_STARTED") this.tree = null;
  }

  step({ run, offset }: FabricEvent, body: Body): void {
    const { supersedes } = body;
    if (!run || !Array.isArray(supersedes)) return;
    for (const id of supersedes) {
      const key = goneKey(run, id);
      if (offset > (this.gone.get(key) ?? "")) this.gone.set(key, offset);
    }
    this.tree = null;
  }

  select({ offset }: FabricEvent, { message }: Body): void {
    if (typeof message !== "string") return;
    this.selected.set(offset, message);
    this.tree = null;
  }

  settle(event: FabricEvent, { message }: Body): void {
    this.settled.set(message, [...(this.settled.get(message) ?? []), event]);
    this.built.delete(message as string);
  }

  // --- parts ---

  private get branches(): Tree | undefined {
    if (this.tree === null) {
      this.shown = this.those(false);
      this.tree = this.arrange?.(this.shown, this.selected, (run) => this.runsById.get(run)?.message);
    }
    return this.tree;
  }

  private those(gone: boolean): GrowingMessage[] {
    // Nearly in order already, so that this costs one comparison each.
    return [...this.drafts.values()].filter((draft) => this.isGone(draft) === gone).sort((a, b) => (a.first < b.first || (a.first === b.first && a.id < b.id) ? -1 : 1));
  }

  /** Whether it is of a failed attempt. One that was begun again under its id is a message again. */
  private isGone({ run, id, last }: GrowingMessage): boolean {
    return run !== null && last < (this.gone.get(goneKey(run, id)) ?? "");
  }

  private delivery(id: string): Delivery | null {
    const about = (this.settled.get(id) ?? []).sort((a, b) => (a.offset < b.offset ? 1 : -1));
    // What became of the wish to have it answered again is not what became of the message.
    const again = about.filter(({ type }) => type === REGENERATE);
    const own = about.find(({ type, body }) => type !== REGENERATE && !again.some(({ offset }) => offset === body["input"]));
    return own ? (own.type.slice("message.".length) as Delivery) : null;
  }

  private message(draft: GrowingMessage): Message {
    // What a message shows of its run and of its place; all else is of its own events.
    const status = draft.done ? "completed" : (ENDED[this.runsById.get(draft.run!)?.state as RunState] ?? "open");
    const cached = this.built.get(draft.id);
    const parent = this.branches?.parents.get(draft.id);
    if (cached?.status === status && cached.parent === parent) return cached;
    const calls = draft.callIds().flatMap((id) => this.calls.get(id) ?? []);
    const message: Message = {
      id: draft.id,
      role: draft.role || (draft.thinks && calls.length === 0 ? "reasoning" : "assistant"),
      actor: draft.actor,
      run: draft.run,
      content: draft.parts ?? draft.text.value,
      reasoning: draft.reasoning.value,
      toolCalls: calls.map(({ id, name, args, result }) => ({ id, name, args: args.value, result })),
      status,
      first: draft.first,
      last: draft.last,
      ts: draft.ts,
      parent,
      delivery: draft.said ? this.delivery(draft.id) : null,
      redacted: draft.redacted !== undefined,
    };
    this.built.set(draft.id, message);
    return message;
  }

  /** Return the message that an event writes into, or null where it may not, or names none. */
  private draft(event: FabricEvent, id: unknown, said = false): GrowingMessage | null {
    if (typeof id !== "string") return null;
    let draft = this.drafts.get(id);
    if (draft?.redacted) return null;
    const mine = draft?.isOf(event, said) === true;
    if (draft === undefined || event.offset < draft.first || this.gone.has(goneKey(event.run, id))) this.tree = null;
    if (draft === undefined || (!mine && event.offset < draft.first)) {
      draft = new GrowingMessage(id, event, said);
      this.drafts.set(id, draft);
    } else if (!mine) {
      return null;
    }
    draft.touch(event);
    this.built.delete(id);
    return draft;
  }

  /** Return a call that is about to change, and is `owner`'s too from now on. */
  private call(id: string, owner?: GrowingMessage): GrowingCall {
    const call = this.calls.get(id) ?? new GrowingCall(id);
    this.calls.set(id, call);
    if (owner !== undefined) call.owners.add(owner.id);
    for (const message of call.owners) this.built.delete(message);
    return call;
  }

  /** Read AG-UI's `toolCalls` of a message: `[{"id":…,"function":{"name":…,"arguments":…}}]`. */
  private toolCalls(draft: GrowingMessage, message: Fields): { call: GrowingCall; name: string; args: string }[] | null {
    const found = message["toolCalls"];
    if (!Array.isArray(found)) return null;
    return found.map(fields).flatMap((item) => {
      const made = fields(item["function"]);
      if (typeof item["id"] !== "string") return [];
      return [{ call: this.call(item["id"], draft), name: text(made["name"]), args: text(made["arguments"]) }];
    });
  }
}

const REGENERATE = "message.regenerate";

/** A run as the events of its life say, each thing by the newest that says it. */
function runOf(id: string, life: ReadonlyMap<Offset, FabricEvent>): Run {
  let run: Partial<Run> = { generation: 1, pool: null, input: null, message: null };
  for (const since of [...life.keys()].sort()) {
    const { type, actor, body } = life.get(since) as FabricEvent;
    const { generation } = body;
    const state = runState(type, body);
    const said = (name: string, when = true): string | null => (when && text(body[name])) || null;
    const failed = state === "failed";
    run = {
      ...run,
      ...(type === "RUN_STARTED" && { pool: said("pool"), input: said("input"), message: said("message") }),
      ...(Number.isInteger(generation) && { generation: generation as number }),
      state,
      agent: text(body["agent"]) || (run.agent ?? actor),
      since,
      request: said("request", state === "suspended"),
      error: said("message", failed),
      code: said("code", failed),
    };
  }
  return { id, ...run } as Run;
}

function runState(type: string, { outcome }: Body): RunState {
  const kind = typeof outcome === "object" ? fields(outcome)["type"] : outcome;
  const cancelled = type === "RUN_FINISHED" && (kind ?? "success") !== "success";
  return cancelled ? "cancelled" : (RUN_STATES[type] as RunState);
}

function put(into: Text, event: FabricEvent, body: Body): void {
  const piece = text(body["delta"]);
  if (event.at === undefined) into.putLoose(event.offset, piece);
  else into.put(event.at, piece);
}

/** A message's content and reasoning; of AG-UI's reasoning messages the content is that. */
function split(message: Fields): { content: unknown; reasoning: string } {
  if (message["role"] === "reasoning") return { content: "", reasoning: text(message["content"]) };
  return { content: message["content"], reasoning: text(message["reasoning"]) };
}

const goneKey = (run: string | null, id: unknown): string => `${run}\n${id}`;

const text = (value: unknown): string => (typeof value === "string" ? value : "");

const fields = (value: unknown): Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};

/** Without a prototype: a type may have any name. */
const RUN_STATES: Readonly<Record<string, RunState | undefined>> = {
  __proto__: null as never,
  "run.claimed": "claimed",
  "run.suspended": "suspended",
  "run.resumed": "running",
  "run.orphaned": "orphaned",
  "run.taken_over": "running",
  RUN_STARTED: "running",
  RUN_FINISHED: "completed",
  RUN_ERROR: "failed",
};

type Handler = "completed" | "redacted" | "snapshot" | "textStarted" | "textDelta" | "reasoning" | "touched" | "settle" | "select" | "step" | "run";
type ToolHandler = "toolStarted" | "toolDelta" | "toolEnded" | "toolResult";

const HANDLERS: Readonly<Record<string, Handler | ToolHandler | undefined>> = {
  __proto__: null as never,
  "message.user": "completed",
  "message.completed": "completed",
  "message.snapshot": "snapshot",
  "message.redacted": "redacted",
  "message.steered": "settle",
  "message.rejected": "settle",
  "message.expired": "settle",
  [REGENERATE]: "settle",
  "branch.selected": "select",
  STEP_STARTED: "step",
  TEXT_MESSAGE_START: "textStarted",
  TEXT_MESSAGE_CONTENT: "textDelta",
  TEXT_MESSAGE_END: "touched",
  REASONING_MESSAGE_START: "reasoning",
  REASONING_MESSAGE_CONTENT: "reasoning",
  REASONING_MESSAGE_END: "touched",
  TOOL_CALL_START: "toolStarted",
  TOOL_CALL_ARGS: "toolDelta",
  TOOL_CALL_END: "toolEnded",
  TOOL_CALL_RESULT: "toolResult",
};
