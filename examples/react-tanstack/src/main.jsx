import { toolDefinition } from "@tanstack/ai/client";
import { useChat } from "@tanstack/ai-react";
import { createRoot } from "react-dom/client";
import { z } from "zod";
import { Chat } from "../../shared/chat.jsx";
import { place, tools } from "../../shared/place.js";
import "../../shared/style.css";
import { connections, stopRun } from "./connections.js";

const wires = Object.keys(connections);
const here = place(wires);
const connection = connections[here.wire](here);
const pageTools = Object.entries(tools).map(([name, call]) =>
  toolDefinition({ name, description: `What ${name} says of this page.`, inputSchema: z.object({}).loose(), outputSchema: z.any() }).client(call),
);
// TanStack's own connections load the conversation and join the answer that goes on; ours hears all of it.
const history = here.wire === "fabric" ? { live: true } : { persistence: true };

function Page() {
  const chat = useChat({ threadId: here.chat, connection, tools: pageTools, ...history });
  const { messages, interrupts, error, isLoading, sessionGenerating, runId } = chat;
  const stop = () => (connection.stop ? connection.stop() : stopRun(here, runId));
  return (
    <Chat
      title="TanStack AI, durable"
      wires={wires}
      here={here}
      messages={messages.map(({ id, role, parts }) => ({ id, role, parts: parts.flatMap(partOf) }))}
      questions={interrupts.map(questionOf)}
      status={isLoading || sessionGenerating ? "streaming" : "ready"}
      error={error}
      send={chat.sendMessage}
      stop={stop}
      answer={(id, approved) => interrupts.find((one) => one.id === id).resolveInterrupt({ approved })}
    />
  );
}

// The whole question stands in the metadata, under a name of ours.
const questionOf = ({ id, message, metadata }) => ({ id, title: message, text: metadata["session-fabric"].text });

function partOf(part) {
  if (part.type === "text") return [{ kind: "text", text: part.content }];
  if (part.type === "thinking") return [{ kind: "thought", text: part.content }];
  if (part.type === "tool-call") return [{ kind: "tool", text: part.name, state: part.output === undefined ? "running" : "done" }];
  return [];
}

createRoot(document.body).render(<Page />);
