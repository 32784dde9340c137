import type { Told } from "../feed/index.js";
import type { Asked } from "../life/index.js";
import type { Chunk, NewerChunk } from "./words.js";

interface Call {
  readonly name: string;
  args: string;
  ended: boolean;
  /** Its input has been said to be complete. */
  available: boolean;
  settled: boolean;
}

/**
 * Writes what is told of a run as chunks of one UI message, whose id is the run's. A rule: no I/O.
 *
 * Tools that agents run themselves count as executed by the provider, so that no page runs them. What is asked of this
 * page is offered (`offer`): a tool as a call of it; an approval as one of the tool `approval`; other questions as calls
 * of `choice`, `text` or `form`, whose output is the answer. The ids are the calls', of questions the requests'.
 */
export class Chunker {
  private readonly open = new Map<string, "text" | "reasoning">();
  private readonly calls = new Map<string, Call>();
  private readonly settled = new Map<string, Asked>();
  private readonly offered = new Set<string>();
  private out: (Chunk | NewerChunk)[] = [];
  private steps = 0;
  /** What it wrote before a reset cannot be taken back: what the chat shows is not what the log says. */
  stained = false;

  constructor(private readonly metadata?: unknown) {}

  /** The chunks of a batch. */
  write(told: readonly Told[]): Chunk[] {
    this.out = [];
    const asked = new Set<string>();
    for (const { type, asked: one } of told) {
      const { request } = (one ?? {}) as Partial<Asked>;
      if (request?.call === undefined) continue;
      asked.add(request.call);
      if (type === "SETTLED") this.settled.set(request.call, one as Asked);
    }
    // A call that goes on and was asked of nobody is the agent's own.
    if (told.length > 0) for (const [id, call] of this.calls) if (call.ended && !call.available && !asked.has(id)) this.available(id, true);
    for (const one of told) this.one(one.type, one as Told & Record<string, never>);
    return this.out as Chunk[];
  }

  /** Offer to this page what was asked. */
  offer({ request }: Asked): Chunk[] {
    this.out = [];
    if (this.offered.has(request.request)) return [];
    this.offered.add(request.request);
    const { kind, call = request.request } = request;
    if (kind !== "tool") this.question(request, false);
    else if (this.calls.get(call)?.settled !== true) this.available(call, false, { name: request.tool ?? "", args: request.args });
    if (kind === "approval") this.out.push({ type: "tool-approval-request", approvalId: request.request, toolCallId: call });
    return this.out as Chunk[];
  }

  /** End the stream while the run goes on: it waits for this page. */
  pause(): Chunk[] {
    this.out = [];
    this.close();
    this.out.push({ type: "finish", finishReason: "tool-calls" });
    return this.out as Chunk[];
  }

  /** The beginning of another stream about the same message. */
  start(run: string): Chunk[] {
    return [{ type: "start", messageId: run, ...(this.metadata === undefined ? {} : { messageMetadata: this.metadata }) }];
  }

  private one(type: string, told: Record<string, string> & { asked?: Asked }): void {
    const { messageId = "", toolCallId = "", delta = "" } = told;
    switch (type) {
      case "RUN_STARTED":
        this.out.push(...this.start(told["runId"] as string));
        return;
      case "TEXT_MESSAGE_START":
      case "REASONING_MESSAGE_START":
        return this.begin(messageId, type[0] === "T" ? "text" : "reasoning");
      case "TEXT_MESSAGE_CONTENT":
      case "REASONING_MESSAGE_CONTENT": {
        const kind = type[0] === "T" ? "text" : "reasoning";
        if (!this.open.has(messageId)) this.begin(messageId, kind);
        this.out.push({ type: `${kind}-delta`, id: messageId, delta });
        return;
      }
      case "TEXT_MESSAGE_END":
      case "REASONING_MESSAGE_END":
        return this.close(messageId);
      case "TOOL_CALL_START": {
        const toolName = told["toolCallName"] as string;
        this.calls.set(toolCallId, { name: toolName, args: "", ended: false, available: false, settled: false });
        this.out.push({ type: "tool-input-start", toolCallId, toolName });
        return;
      }
      case "TOOL_CALL_ARGS": {
        const call = this.calls.get(toolCallId);
        if (call !== undefined) call.args += delta;
        this.out.push({ type: "tool-input-delta", toolCallId, inputTextDelta: delta });
        return;
      }
      case "TOOL_CALL_END": {
        const call = this.calls.get(toolCallId);
        if (call !== undefined) call.ended = true;
        return;
      }
      case "TOOL_CALL_RESULT":
        return this.result(toolCallId, told["content"] as string);
      case "SETTLED":
        return this.answered(told.asked as Asked);
      case "CUSTOM":
        this.out.push({ type: `data-${told["name"]}`, data: told["value"], transient: true });
        return;
      case "RESET":
        this.calls.clear();
        this.offered.clear();
        this.stained ||= this.steps > 0;
        this.out.push({ type: "reset-step" });
        return;
      case "RUN_FINISHED": {
        const { type: outcome } = told["outcome"] as unknown as { type: string };
        this.close();
        this.out.push({ type: "finish", finishReason: outcome === "success" ? "stop" : "other" });
        return;
      }
      case "RUN_ERROR":
        this.close();
        this.out.push({ type: "error", errorText: told["message"] as string });
    }
  }

  private begin(id: string, kind: "text" | "reasoning"): void {
    this.open.set(id, kind);
    this.out.push({ type: `${kind}-start`, id });
  }

  private close(id?: string): void {
    for (const [open, kind] of this.open) {
      if (id !== undefined && id !== open) continue;
      this.open.delete(open);
      this.out.push({ type: `${kind}-end`, id: open });
    }
  }

  /** `own`: by the agent itself, or by another device. */
  private available(toolCallId: string, own: boolean, unless?: { name: string; args: unknown }): void {
    const call = this.calls.get(toolCallId);
    const toolName = call?.name ?? unless?.name ?? "";
    if (call !== undefined) call.available = true;
    const input = unless?.args ?? parsed(call?.args ?? "");
    this.out.push({ type: "tool-input-available", toolCallId, toolName, input, ...(own ? { providerExecuted: true } : {}) });
  }

  private result(toolCallId: string, content: string): void {
    const call = this.calls.get(toolCallId);
    if (call === undefined) return;
    call.settled = true;
    if (!call.available) this.available(toolCallId, true);
    const asked = this.settled.get(toolCallId);
    if (asked?.error) this.out.push({ type: "tool-output-error", toolCallId, errorText: asked.error });
    else this.out.push({ type: "tool-output-available", toolCallId, output: parsed(content) });
    if (asked !== undefined) this.step();
  }

  /** A step of the AI SDK's: what was answered is behind it, and not to be sent again. */
  step(): Chunk {
    const step: Chunk = { type: "start-step" };
    this.steps += 1;
    this.out.push(step);
    return step;
  }

  private question(request: Asked["request"], over: boolean): void {
    const { request: toolCallId, kind, title, text, options, schema } = request;
    const input = { title, text, options, schema };
    this.out.push({ type: "tool-input-available", toolCallId, toolName: kind, input, ...(over ? { providerExecuted: true } : {}) });
  }

  /** A question is over; of tools the result says so. */
  private answered({ request, state, answer, by, reason }: Asked): void {
    const { request: toolCallId, kind } = request;
    if (kind === "tool") return;
    if (!this.offered.has(toolCallId)) this.question(request, true);
    if (state !== "answered") this.out.push({ type: "tool-output-error", toolCallId, errorText: `Nobody has answered: ${reason}.` });
    else if (kind !== "approval") this.out.push({ type: "tool-output-available", toolCallId, output: answer });
    else this.approval(toolCallId, answer, by);
    this.step();
  }

  private approval(toolCallId: string, answer: unknown, by: string | null): void {
    const { approved = false, comment } = (answer ?? {}) as { approved?: boolean; comment?: string };
    if (!this.offered.has(toolCallId)) this.out.push({ type: "tool-approval-request", approvalId: toolCallId, toolCallId });
    this.out.push({ type: "tool-approval-response", approvalId: toolCallId, approved, ...(comment ? { reason: comment } : {}) });
    if (approved) this.out.push({ type: "tool-output-available", toolCallId, output: { approved, comment, by } });
    else this.out.push({ type: "tool-output-denied", toolCallId });
  }
}

/** JSON where it is that, else the text, or what is to stand for it. */
export function parsed(text: string, other: unknown = text): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return other;
  }
}
