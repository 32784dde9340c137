import type { Message } from "../index.js";
import type { Asked } from "../life/index.js";
import { textOf, type Told } from "./telling.js";

/**
 * What is told of a run, as AG-UI 1.0 has it and nothing else: where what was told is not so any more, a snapshot of the
 * `others` (the messages before) stands, and the run's are told anew.
 */
export function aguiOf(told: readonly Told[], others: () => readonly Message[]): Told[] {
  return told.flatMap((event) => {
    const { type, messageId } = event;
    if (type === "ASKED" || type === "SETTLED") return [];
    if (type === "RESET") return [{ type: "MESSAGES_SNAPSHOT", messages: snapshotOf(others()) }];
    if (type === "RUN_ERROR") return [{ type, message: event["message"], ...(event["code"] ? { code: event["code"] } : {}) }];
    if (type === "REASONING_MESSAGE_START") return [{ type: "REASONING_START", messageId }, event];
    if (type === "REASONING_MESSAGE_END") return [event, { type: "REASONING_END", messageId }];
    return [event];
  });
}

/** Messages as AG-UI's `MESSAGES_SNAPSHOT` lists them. */
export function snapshotOf(messages: readonly Message[]): object[] {
  return messages.flatMap(({ id, role, content, reasoning, toolCalls }) => {
    if (role === "user") return [{ id, role, content }];
    const list: object[] = reasoning === "" ? [] : [{ id: `${id}.reasoning`, role: "reasoning", content: reasoning }];
    if (role === "reasoning") return list;
    const calls = toolCalls.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.args } }));
    list.push({ id, role: "assistant", content: textOf(content), ...(calls.length > 0 ? { toolCalls: calls } : {}) });
    for (const { id: toolCallId, result } of toolCalls) {
      if (result === null) continue;
      list.push({ id: `${toolCallId}.result`, role: "tool", toolCallId, content: typeof result === "string" ? result : JSON.stringify(result) });
    }
    return list;
  });
}

/** Under this the whole question stands, as over the gateway's own AG-UI and TanStack wires. */
export const OURS = "session-fabric";

const ANSWERS: Readonly<Record<string, object>> = {
  approval: { type: "object", properties: { approved: { type: "boolean" }, comment: { type: "string" } }, required: ["approved"] },
  text: { type: "string" },
};

/** What is asked of this page, as AG-UI's interrupts; a `resume` entry's `payload` is the answer. */
export function interruptsOf(asked: readonly Asked[]): Interrupt[] {
  const interrupts = asked.map(({ request: { request: id, kind, tool, args, call, title, text, options, schema, deadline } }) => ({
    id,
    reason: `${OURS}:${kind}`,
    message: [title, text].filter(Boolean).join(" ") || (tool ?? kind),
    ...(call ? { toolCallId: call } : {}),
    ...(schema ?? ANSWERS[kind] ? { responseSchema: (schema ?? ANSWERS[kind]) as Record<string, unknown> } : {}),
    ...(deadline === null ? {} : { expiresAt: new Date(deadline).toISOString() }),
    metadata: { [OURS]: { kind, title, text, options, schema, tool, args } },
  }));
  return JSON.parse(JSON.stringify(interrupts)) as Interrupt[]; // without what is undefined: TanStack takes JSON only
}

export interface Interrupt {
  readonly id: string;
  readonly reason: string;
  readonly message: string;
  readonly toolCallId?: string;
  readonly responseSchema?: Record<string, unknown>;
  readonly expiresAt?: string;
  readonly metadata: Record<string, unknown>;
}
