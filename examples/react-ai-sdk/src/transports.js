// The three ways of a chat to the gateway. The first two are the AI SDK's own, as npm has them; the third is ours.
import { connect } from "@session-fabric/client";
import { FabricChatTransport } from "@session-fabric/client/ai-sdk";
import { DefaultChatTransport, WebSocketChatTransport } from "ai";
import { headersOf, ticket } from "../../shared/place.js";

export const transports = {
  http: (here) => new DefaultChatTransport({ api: `${here.url}/v1/ai-sdk/chat`, headers: headersOf(here) }),
  websocket: (here) =>
    new WebSocketChatTransport({
      url: `${here.url.replace("http", "ws")}/v1/ai-sdk/ws`,
      params: async () => ({ ticket: await ticket(here) }),
    }),
  fabric: (here) => new FabricChatTransport(connect({ url: here.url, token: here.token || undefined })),
};

/** What the chat has so far. */
export async function load(here) {
  const answer = await fetch(`${here.url}/v1/ai-sdk/chat/${here.chat}/messages`, { headers: headersOf(here) });
  return answer.ok ? (await answer.json()).messages : [];
}

/** Ends the run, for everybody; `stop()` of useChat alone turns away from it. */
export const stopRun = (here) => fetch(`${here.url}/v1/ai-sdk/chat/${here.chat}/stop`, { method: "POST", headers: headersOf(here) });
