/** A message of TanStack's chats, as far as it is looked at here. */
export interface Said {
  readonly id: string;
  readonly role: string;
  readonly content?: unknown;
  readonly parts?: readonly Part[];
}

interface Part {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** What a tool of the page has given. */
export interface Result {
  readonly call: string;
  readonly output: unknown;
  readonly error: string | undefined;
}

/** What a user's message says, as AG-UI's content: a text, or parts. */
export function contentOf({ content = "", parts = [] }: Said): unknown {
  if (parts.length === 0) return content;
  const said = parts.flatMap((part): { type: string; text?: string; source?: unknown }[] => {
    if (part.type === "text") return [{ type: "text", text: String(part["content"]) }];
    return "source" in part ? [{ type: part.type, source: part["source"] }] : [];
  });
  return said.every(({ type }) => type === "text") ? said.map(({ text }) => text).join("") : said;
}

/** The results in the newest message of the assistant. */
export function resultsOf(messages: readonly Said[]): Result[] {
  const { parts = [] } = messages.filter(({ role }) => role === "assistant").at(-1) ?? {};
  return parts.flatMap((part): Result[] => {
    if (part.type === "tool-call" && part["output"] !== undefined) return [{ call: String(part["id"]), output: part["output"], error: undefined }];
    if (part.type !== "tool-result") return [];
    const error = part["state"] === "error" ? String(part["error"] ?? "failed") : undefined;
    return [{ call: String(part["toolCallId"]), output: parsed(part["content"]), error }];
  });
}

function parsed(content: unknown): unknown {
  try {
    return JSON.parse(String(content));
  } catch {
    return content;
  }
}
