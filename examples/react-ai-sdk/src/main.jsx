import { Chat as AiChat, useChat } from "@ai-sdk/react";
import { lastAssistantMessageIsCompleteWithApprovalResponses, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import { useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { Chat } from "../../shared/chat.jsx";
import { place, tools } from "../../shared/place.js";
import "../../shared/style.css";
import { load, stopRun, transports } from "./transports.js";

const wires = Object.keys(transports);
const here = place(wires);
const transport = transports[here.wire](here);

/** How this page answers what agents ask: at once with its tools, and by its buttons. */
const asked = (chat) => ({
  onToolCall: ({ toolCall: { toolName: tool, toolCallId } }) => {
    if (tools[tool]) chat().addToolOutput({ tool, toolCallId, output: tools[tool]() });
  },
  sendAutomaticallyWhen: (it) =>
    lastAssistantMessageIsCompleteWithToolCalls(it) || lastAssistantMessageIsCompleteWithApprovalResponses(it),
});

/** With the AI SDK's own transports: what there is is loaded, and the answer that goes on is resumed. */
function Loaded({ messages }) {
  const latest = useRef(null);
  const chat = useChat({ id: here.chat, messages, resume: true, transport, ...asked(() => latest.current) });
  latest.current = chat;
  return <Shown chat={chat} stop={() => stopRun(here)} resume={chat.resumeStream} />;
}

/** With ours: the chat is kept like the session, whoever says something. */
function Mirrored() {
  const [held] = useState(() => {
    const made = new AiChat({ id: here.chat, transport, ...asked(() => made) });
    return made;
  });
  const chat = useChat({ chat: held });
  useEffect(() => transport.mirror(held), [held]);
  return <Shown chat={chat} stop={() => transport.stop(here.chat)} />;
}

function Shown({ chat: { messages, status, error, sendMessage, addToolApprovalResponse }, stop, resume }) {
  const parts = messages.flatMap((message) => message.parts);
  const waiting = parts.filter((part) => part.type === "tool-approval" && part.state === "approval-requested");
  return (
    <Chat
      title="AI SDK, durable"
      wires={wires}
      here={here}
      messages={messages.map(({ id, role, parts }) => ({ id, role, parts: parts.flatMap(partOf) }))}
      questions={waiting.map(({ approval, input }) => ({ id: approval.id, ...input }))}
      status={status}
      error={error}
      send={(text) => sendMessage({ text })}
      stop={stop}
      resume={resume}
      answer={(id, approved) => addToolApprovalResponse({ id, approved })}
    />
  );
}

function partOf(part) {
  if (part.type === "text") return [{ kind: "text", text: part.text }];
  if (part.type === "reasoning") return [{ kind: "thought", text: part.text }];
  if (!part.type.startsWith("tool-") || part.type === "tool-approval") return [];
  return [{ kind: "tool", text: part.type.slice("tool-".length), state: part.state.startsWith("output") ? "done" : "running" }];
}

const root = createRoot(document.body);
if (here.wire === "fabric") root.render(<Mirrored />);
else load(here).then((messages) => root.render(<Loaded messages={messages} />));
