/** The AI SDK's chats over sessions. Nothing of the AI SDK is imported: its words are matched by form. */
export { assemble, project, type Projected } from "./messages.js";
export { type Mirrored } from "./mirror.js";
export { FabricChatTransport, type TransportOptions } from "./transport.js";
export { Chunker } from "./chunks.js";
export type { Chunk, UiMessage, UiPart } from "./words.js";
