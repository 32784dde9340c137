import type { FabricEvent, Message, Run, ToolCall } from "../index.js";
import type { Asked } from "../life/index.js";

/**
 * What is told of a run: AG-UI's events, and three of our own: `RESET` (forget what was told of the run, it is told
 * anew), `ASKED` and `SETTLED` (`asked`: a request to participants, and that it is over).
 */
export interface Told {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** A run as it is now. */
export interface RunNow {
  readonly run: Run | undefined;
  /** Its messages, in order. */
  readonly messages: readonly Message[];
  readonly asked: readonly Asked[];
  /** Its events that messages do not show, in the order of arrival; a list that only grows, or loses its beginning. */
  readonly passing: readonly FabricEvent[];
  isCalled(call: string): boolean;
}

interface Text {
  readonly id: string;
  told: string;
  open: boolean;
}

interface Call {
  readonly message: string;
  args: number;
  ended: boolean;
  answered: boolean;
}

/**
 * Tells a run as AG-UI events, from its beginning, each thing once: what is new since it was last asked. A rule: no I/O.
 *
 * It goes by what the run's messages are and not by the events that made them, so that what comes twice, late, or whole
 * after its pieces were lost is told once and in order. Pieces that come together are told as one.
 */
export class Teller {
  /** The run's end has been told. */
  over = false;
  private started = false;
  private readonly texts = new Map<string, Text>();
  private readonly calls = new Map<string, Call>();
  private readonly asked = new Map<string, string>();
  private readonly passed = new WeakSet<FabricEvent>();
  private told: Told[] = [];

  constructor(
    private readonly thread: string,
    private readonly id: string,
  ) {}

  tell(now: RunNow): Told[] {
    this.told = [];
    if (this.over || now.run === undefined) return [];
    if (!this.started) this.say("RUN_STARTED", { threadId: this.thread, runId: this.id });
    this.started = true;
    for (const event of now.passing) {
      if (!this.passed.has(event)) this.told.push(event.body);
      this.passed.add(event);
    }
    if (this.contradicted(now.messages)) this.reset();
    now.messages.forEach((message, n) => this.message(message, now, n === now.messages.length - 1));
    for (const one of now.asked) this.request(one);
    this.end(now.run);
    return this.told;
  }

  /** Close what is open, since the telling pauses: what comes then is told behind a start of its own. */
  pause(): Told[] {
    this.told = [];
    this.shut();
    return this.told;
  }

  private message(message: Message, now: RunNow, last: boolean): void {
    const { id, reasoning, status } = message;
    const content = textOf(message.content);
    const over = status !== "open";
    this.grow("REASONING_", `${id}.reasoning`, reasoning, over || content !== "" || message.toolCalls.length > 0);
    // What a run's last message says beside calls that have results was said after them.
    const after = last && message.toolCalls.every(({ result }) => result !== null);
    if (!after) this.grow("TEXT_", id, content, over);
    for (const call of message.toolCalls) this.call(id, call, over || now.isCalled(call.id));
    if (after) this.grow("TEXT_", id, content, over);
  }

  private grow(kind: "TEXT_" | "REASONING_", id: string, content: string, over: boolean): void {
    const text = this.texts.get(id) ?? { id, told: "", open: false };
    const more = content.length > text.told.length;
    if (more) {
      this.texts.set(id, text);
      if (!text.open) this.say(`${kind}MESSAGE_START`, { messageId: id, role: kind === "TEXT_" ? "assistant" : "reasoning" });
      this.say(`${kind}MESSAGE_CONTENT`, { messageId: id, delta: content.slice(text.told.length) });
      text.told = content;
      text.open = true;
    }
    if (over && text.open) this.close(text, kind);
  }

  private close(text: Text, kind: string): void {
    text.open = false;
    this.say(`${kind}MESSAGE_END`, { messageId: text.id });
  }

  private call(message: string, { id, name, args, result }: ToolCall, over: boolean): void {
    if (name === "") return;
    const call = this.calls.get(id) ?? { message, args: 0, ended: false, answered: false };
    if (!this.calls.has(id)) {
      this.calls.set(id, call);
      this.say("TOOL_CALL_START", { toolCallId: id, toolCallName: name, parentMessageId: message });
    }
    if (!call.ended && args.length > call.args) {
      this.say("TOOL_CALL_ARGS", { toolCallId: id, delta: args.slice(call.args) });
      call.args = args.length;
    }
    if (!call.ended && (over || result !== null)) {
      call.ended = true;
      this.say("TOOL_CALL_END", { toolCallId: id });
    }
    if (result === null || call.answered) return;
    call.answered = true;
    const content = typeof result === "string" ? result : JSON.stringify(result);
    this.say("TOOL_CALL_RESULT", { messageId: `${id}.result`, toolCallId: id, content, role: "tool" });
  }

  private request(asked: Asked): void {
    const { request } = asked.request;
    if (asked.state === "open" ? this.asked.has(request) : this.asked.get(request) === asked.state) return;
    // What was over before it could be told is told as asked all the same, so that its answer has a place.
    if (!this.asked.has(request)) this.say("ASKED", { asked });
    this.asked.set(request, asked.state);
    if (asked.state !== "open") this.say("SETTLED", { asked });
  }

  /** Whether something that was told is not so: a text that was replaced, a message that an attempt superseded. */
  private contradicted(messages: readonly Message[]): boolean {
    if (this.texts.size + this.calls.size === 0) return false;
    const now = new Map(messages.map((message) => [message.id, message]));
    for (const { id, told } of this.texts.values()) {
      const message = now.get(id.replace(/\.reasoning$/, "")) ?? now.get(id);
      if (message === undefined) return true;
      const content = id === message.id ? textOf(message.content) : message.reasoning;
      // Only an end replaces a text; until then it grows.
      if (content.length < told.length || (message.status !== "open" && !content.startsWith(told))) return true;
    }
    return [...this.calls.values()].some(({ message }) => !now.has(message));
  }

  private shut(): void {
    for (const text of this.texts.values()) if (text.open) this.close(text, text.id.endsWith(".reasoning") ? "REASONING_" : "TEXT_");
  }

  private reset(): void {
    this.shut();
    for (const [toolCallId, call] of this.calls) if (!call.ended) this.say("TOOL_CALL_END", { toolCallId });
    this.texts.clear();
    this.calls.clear();
    this.asked.clear();
    this.say("RESET", {});
  }

  private end({ state, error, code }: Run): void {
    const ids = { threadId: this.thread, runId: this.id };
    if (state === "failed") this.say("RUN_ERROR", { ...ids, message: error ?? "The run has failed.", ...(code ? { code } : {}) });
    else if (state === "completed" || state === "cancelled") this.say("RUN_FINISHED", { ...ids, outcome: { type: state === "completed" ? "success" : "cancelled" } });
    else return;
    this.over = true;
  }

  private say(type: string, fields: object): void {
    this.told.push({ type, ...fields });
  }
}

/** The text of a message's content, whatever else is in it. */
export function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part: { text?: unknown }) => (typeof part?.text === "string" ? part.text : "")).join("");
}

/** What there is to tell of a run, in a word: where this is the same, nothing has come. */
export function versionOf({ run, messages, asked }: RunNow): string {
  const said = messages.map(({ last, content, reasoning, status }) => [last, textOf(content).length, reasoning.length, status]);
  return JSON.stringify([run?.since, said, asked.map(({ request, state }) => [request.request, state])]);
}
