// `useChat` of the AI SDK, unmodified, that notes when React has committed each token. Tokens are times, 18 characters each.
import { Chat, useChat } from "@ai-sdk/react";
import { connect } from "@session-fabric/client";
import { FabricChatTransport } from "@session-fabric/client/ai-sdk";
import { DefaultChatTransport, WebSocketChatTransport } from "ai";
import { useLayoutEffect } from "react";
import { createRoot } from "react-dom/client";

const said = new URLSearchParams(location.hash.slice(1));
const transports = {
  plain: () => new DefaultChatTransport({ api: "/api/chat" }),
  http: () => new DefaultChatTransport({ api: "/v1/ai-sdk/chat" }),
  websocket: () => new WebSocketChatTransport({ url: `${location.origin.replace("http", "ws")}/v1/ai-sdk/ws` }),
  fabric: () => new FabricChatTransport(connect({ url: location.origin })),
};
const chat = new Chat({ id: said.get("chat"), transport: transports[said.get("wire")]() });

const TOKEN = 18;
const late = [];

function Page() {
  const { messages } = useChat({ chat });
  const last = messages.at(-1);
  const text = last?.role === "assistant" ? last.parts.map((part) => (part.type === "text" ? part.text : "")).join("") : "";
  useLayoutEffect(() => {
    const now = performance.timeOrigin + performance.now();
    while (late.length < Math.floor(text.length / TOKEN)) {
      const at = late.length * TOKEN;
      late.push(now - Number(text.slice(at, at + TOKEN)) / 1000);
    }
  }, [text]);
  return <p>{text}</p>;
}

/** Has so many tokens said; resolves with the milliseconds that each was late, and what went wrong. */
window.measure = async (tokens) => {
  await chat.sendMessage({ text: String(tokens) });
  for (let frames = 0; late.length < tokens && frames < 100; frames += 1) await new Promise((resolve) => requestAnimationFrame(resolve));
  return { late, error: chat.error?.message ?? null };
};

createRoot(document.body.appendChild(document.createElement("main"))).render(<Page />);
