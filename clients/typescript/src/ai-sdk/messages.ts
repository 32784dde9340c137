import { type Feed, Teller, textOf, versionOf } from "../feed/index.js";
import type { Message } from "../index.js";
import { Chunker, parsed } from "./chunks.js";
import type { Chunk, NewerChunk, UiMessage, UiPart } from "./words.js";

/** A message as it is in the log, and which state of it that is. */
export interface Projected {
  readonly message: UiMessage;
  readonly last: string;
  readonly run: string | null;
}

/**
 * What the branch that is shown says, as UI messages: each run is one message, whose id is the run's. `known`: those of
 * runs as they were, to be used again where nothing has come.
 */
export function project(feed: Feed, known = new Map<string, Projected>()): Projected[] {
  const { path, runs } = feed.conversation;
  const projected: Projected[] = [];
  const spoken = new Set(feed.conversation.messages.map(({ run }) => run));
  const told = new Set<string>();
  // A run that has said nothing, but asks something, stands behind what it answers.
  const silent = [...runs.values()].filter(({ id }) => !spoken.has(id) && feed.now(id).asked.length > 0);
  for (const message of path) {
    const { id, run, role, actor, last } = message;
    if (run === null) {
      projected.push({ message: { id, role: role === "user" ? "user" : "assistant", parts: partsOf(message), metadata: { actor } }, last, run });
    } else if (!told.has(run)) {
      told.add(run);
      projected.push(projectRun(feed, run, actor, known));
    }
    const asking = silent.filter((one) => one.message === id).at(-1);
    if (asking !== undefined) projected.push(projectRun(feed, asking.id, asking.agent, known));
  }
  return projected;
}

function projectRun(feed: Feed, id: string, actor: string, known: Map<string, Projected>): Projected {
  const teller = new Teller(feed.session.name, id);
  const now = feed.now(id);
  const last = versionOf(now);
  const before = known.get(id);
  if (before?.last === last) return before;
  const mine = now.asked.filter(({ request }) => feed.requests.mine(request));
  const chunks = new Chunker().write(teller.tell({ ...now, asked: mine }));
  const projected = { message: { id, role: "assistant", parts: assemble(chunks), metadata: { actor } }, last, run: id };
  known.set(id, projected);
  return projected;
}

/** Put a stream's chunks together to parts, as the AI SDK does. */
export function assemble(chunks: readonly (Chunk | NewerChunk)[]): UiPart[] {
  const parts: Record<string, unknown>[] = [];
  const texts = new Map<string, Record<string, unknown>>();
  const tools = new Map<string, Record<string, unknown>>();
  const inputs = new Map<object, string>();
  const tool = (id: string, name: string): Record<string, unknown> => {
    const part = tools.get(id) ?? { type: `tool-${name}`, toolCallId: id, input: undefined };
    if (!tools.has(id)) parts.push(part);
    tools.set(id, part);
    return part;
  };
  for (const chunk of chunks) {
    switch (chunk.type) {
      case "text-start":
      case "reasoning-start": {
        const part = { type: chunk.type === "text-start" ? "text" : "reasoning", text: "", state: "streaming" };
        texts.set(chunk.id, part);
        parts.push(part);
        break;
      }
      case "reset-step":
        parts.splice(parts.map(({ type }) => type).lastIndexOf("step-start") + 1);
        break;
      case "start-step":
        parts.push({ type: "step-start" });
        break;
      case "text-delta":
      case "reasoning-delta": {
        const part = texts.get(chunk.id);
        if (part !== undefined) part["text"] += chunk.delta;
        break;
      }
      case "text-end":
      case "reasoning-end":
        Object.assign(texts.get(chunk.id) ?? {}, { state: "done" });
        break;
      case "tool-input-start":
        tool(chunk.toolCallId, chunk.toolName)["state"] = "input-streaming";
        break;
      case "tool-input-delta": {
        const part = tools.get(chunk.toolCallId) ?? {};
        inputs.set(part, (inputs.get(part) ?? "") + chunk.inputTextDelta);
        part["input"] = parsed(inputs.get(part) as string, undefined);
        break;
      }
      case "tool-input-available": {
        const { toolCallId, toolName, input, providerExecuted } = chunk;
        Object.assign(tool(toolCallId, toolName), { state: "input-available", input }, providerExecuted ? { providerExecuted } : {});
        break;
      }
      case "tool-approval-request":
        Object.assign(tools.get(chunk.toolCallId) ?? {}, { state: "approval-requested", approval: { id: chunk.approvalId } });
        break;
      case "tool-approval-response": {
        const { approvalId: id, approved, reason } = chunk;
        Object.assign(tools.get(id) ?? {}, { state: "approval-responded", approval: { id, approved, ...(reason ? { reason } : {}) } });
        break;
      }
      case "tool-output-available":
        Object.assign(tools.get(chunk.toolCallId) ?? {}, { state: "output-available", output: chunk.output });
        break;
      case "tool-output-error":
        Object.assign(tools.get(chunk.toolCallId) ?? {}, { state: "output-error", errorText: chunk.errorText });
        break;
      case "tool-output-denied":
        Object.assign(tools.get(chunk.toolCallId) ?? {}, { state: "output-denied" });
    }
  }
  return parts as unknown as UiPart[];
}

const MEDIA = /^(image|audio|video)\//;

/** A message that no run wrote: its text and what is attached to it. */
function partsOf({ content }: Message): UiPart[] {
  if (!Array.isArray(content)) return [{ type: "text", text: textOf(content) }];
  return content.map(({ text, source, metadata }: Record<string, unknown>) => {
    if (typeof text === "string") return { type: "text", text };
    const { type, value, mimeType = "application/octet-stream" } = (source ?? {}) as Record<string, string>;
    return { type: "file", mediaType: mimeType, url: type === "data" ? `data:${mimeType};base64,${value}` : value, ...(metadata as object | undefined) };
  });
}

/** What a UI message of a user says, as AG-UI's content: a text, or parts. */
export function contentOf(message: UiMessage): unknown {
  const parts = (message.parts as UiPart[]).flatMap(contentPart);
  return parts.every(({ type }) => type === "text") ? parts.map(({ text }) => text).join("") : parts;
}

function contentPart({ type, text, url, mediaType, filename }: UiPart): UiPart[] {
  if (type === "text") return [{ type, text: String(text) }];
  if (type !== "file") return [];
  const mimeType = String(mediaType);
  const value = /^data:[^,]*;base64,(.*)$/s.exec(String(url))?.[1];
  const source = value === undefined ? { type: "url", value: url, mimeType } : { type: "data", value, mimeType };
  return [{ type: MEDIA.exec(mimeType)?.[1] ?? "document", source, ...(filename ? { metadata: { filename } } : {}) }];
}
