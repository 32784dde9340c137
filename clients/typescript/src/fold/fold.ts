import type { Body, FabricEvent } from "../words.js";
import { GrowingCall, GrowingMessage, type Message, type Run, type RunState, STATUS } from "./messages.js";
import type { Text } from "./text.js";

type Fields = Readonly<Record<string, unknown>>;

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
  private readonly built = new Map<string, Message>();
  private order: readonly GrowingMessage[] | null = null;

  get runs(): ReadonlyMap<string, Run> {
    return this.runsById;
  }

  /** All messages in order of first appearance. One that has not changed is the same object as before. */
  get messages(): readonly Message[] {
    this.order ??= [...this.drafts.values()].sort((a, b) => (a.first < b.first ? -1 : 1));
    return this.order.map((draft) => this.message(draft));
  }

  has(id: string): boolean {
    return this.drafts.has(id);
  }

  /** Fold one event. Types that messages do not need, and bodies without ids, change nothing. */
  add(event: FabricEvent): void {
    HANDLERS.get(event.type)?.(this, event, event.body);
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
    if (draft.begin(body["began"])) this.order = null;
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
    if (!said && draft.begin(body["began"])) this.order = null;
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
    const known = this.runsById.get(id);
    if (known !== undefined && event.offset <= known.since) return;
    const agent = text(body["agent"]) || (known?.agent ?? event.actor);
    const error = event.type === "RUN_ERROR" ? text(body["message"]) || null : null;
    this.runsById.set(id, { id, state: runState(event.type, body), agent, since: event.offset, error });
    for (const draft of this.drafts.values()) if (draft.run === id) this.built.delete(draft.id);
  }

  // --- parts ---

  private message(draft: GrowingMessage): Message {
    const cached = this.built.get(draft.id);
    if (cached !== undefined) return cached;
    const run = draft.run === null ? undefined : this.runsById.get(draft.run);
    const calls = draft.callIds().flatMap((id) => this.calls.get(id) ?? []);
    const message: Message = {
      id: draft.id,
      role: draft.role || (draft.thinks && calls.length === 0 ? "reasoning" : "assistant"),
      actor: draft.actor,
      run: draft.run,
      content: draft.parts ?? draft.text.value,
      reasoning: draft.reasoning.value,
      toolCalls: calls.map(({ id, name, args, result }) => ({ id, name, args: args.value, result })),
      status: draft.done !== null ? "completed" : run === undefined ? "open" : STATUS[run.state],
      first: draft.first,
      last: draft.last,
      ts: draft.ts,
    };
    this.built.set(draft.id, message);
    return message;
  }

  /** Return the message that an event writes into, or null where it may not, or names none. */
  private draft(event: FabricEvent, id: unknown, said = false): GrowingMessage | null {
    if (typeof id !== "string") return null;
    let draft = this.drafts.get(id);
    const stranger = draft !== undefined && (draft.said !== said || (said && draft.actor !== event.actor));
    if (draft === undefined || (stranger && event.offset < draft.first)) {
      draft = new GrowingMessage(id, event, said);
      this.drafts.set(id, draft);
      this.order = null;
    } else if (stranger) {
      return null;
    }
    if (event.offset < draft.first) this.order = null;
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

function runState(type: string, body: Body): RunState {
  if (type !== "RUN_FINISHED") return RUN_STATES[type] ?? "running";
  const { outcome } = body;
  const kind = typeof outcome === "object" && outcome !== null ? fields(outcome)["type"] : outcome;
  return kind === undefined || kind === null || kind === "success" ? "completed" : "cancelled";
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

const text = (value: unknown): string => (typeof value === "string" ? value : "");

const fields = (value: unknown): Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};

const RUN_STATES: Readonly<Record<string, RunState>> = {
  "run.claimed": "claimed",
  "run.taken_over": "claimed",
  "run.orphaned": "orphaned",
  RUN_STARTED: "running",
  RUN_ERROR: "failed",
};

type Handler = (fold: Fold, event: FabricEvent, body: Body) => void;
const onRun: Handler = (fold, event, body) => fold.run(event, body);
const onReasoning: Handler = (fold, event, body) => fold.reasoning(event, body);
const onTouch: Handler = (fold, event, body) => fold.touched(event, body);
const onCompleted: Handler = (fold, event, body) => fold.completed(event, body);

const HANDLERS: ReadonlyMap<string, Handler> = new Map([
  ["message.user", onCompleted],
  ["message.completed", onCompleted],
  ["message.snapshot", (fold, event, body) => fold.snapshot(event, body)],
  ["TEXT_MESSAGE_START", (fold, event, body) => fold.textStarted(event, body)],
  ["TEXT_MESSAGE_CONTENT", (fold, event, body) => fold.textDelta(event, body)],
  ["TEXT_MESSAGE_END", onTouch],
  ["REASONING_MESSAGE_START", onReasoning],
  ["REASONING_MESSAGE_CONTENT", onReasoning],
  ["REASONING_MESSAGE_END", onTouch],
  ["TOOL_CALL_START", (fold, event, body) => fold.toolStarted(event, body)],
  ["TOOL_CALL_ARGS", (fold, event, body) => fold.toolDelta(event, body)],
  ["TOOL_CALL_END", (fold, event, body) => fold.toolEnded(event, body)],
  ["TOOL_CALL_RESULT", (fold, event, body) => fold.toolResult(event, body)],
  ["RUN_FINISHED", onRun],
  ...Object.keys(RUN_STATES).map((type): [string, Handler] => [type, onRun]),
] satisfies [string, Handler][]);
