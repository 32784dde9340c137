/** The AI SDK's words that are used here, as far as versions 6 and 7 agree on them; so that none of it is imported. */

export interface UiPart {
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface UiMessage {
  readonly id: string;
  readonly role: string;
  readonly parts: readonly unknown[];
  readonly metadata?: unknown;
}

/** Chunks of a UI message stream. `dynamic` and provider fields are never set. */
export type Chunk =
  | { type: "start"; messageId: string; messageMetadata?: unknown }
  | { type: "text-start" | "text-end" | "reasoning-start" | "reasoning-end"; id: string }
  | { type: "text-delta" | "reasoning-delta"; id: string; delta: string }
  | { type: "tool-input-start"; toolCallId: string; toolName: string }
  | { type: "tool-input-delta"; toolCallId: string; inputTextDelta: string }
  | { type: "tool-input-available"; toolCallId: string; toolName: string; input: unknown; providerExecuted?: boolean }
  | { type: "tool-approval-request"; approvalId: string; toolCallId: string }
  | { type: "tool-output-available"; toolCallId: string; output: unknown }
  | { type: "tool-output-error"; toolCallId: string; errorText: string }
  | { type: "tool-output-denied"; toolCallId: string }
  | { type: `data-${string}`; data: unknown; transient?: boolean }
  | { type: "start-step" }
  | { type: "error"; errorText: string }
  | { type: "finish"; finishReason?: "stop" | "tool-calls" | "other" };

/** What version 7 has beyond that; 6 passes over it. */
export type NewerChunk = { type: "reset-step" } | { type: "tool-approval-response"; approvalId: string; approved: boolean; reason?: string };

/** What a request of the chat carries, beside what its trigger needs. */
export interface ChatRequest {
  readonly chatId: string;
  readonly abortSignal?: AbortSignal | undefined;
  readonly body?: object | undefined;
  readonly headers?: unknown;
  readonly metadata?: unknown;
}

export interface SendRequest<Message extends UiMessage> extends ChatRequest {
  readonly trigger: "submit-message" | "regenerate-message";
  readonly messageId: string | undefined;
  readonly messages: Message[];
  readonly abortSignal: AbortSignal | undefined;
}
