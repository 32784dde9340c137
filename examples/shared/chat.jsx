// What a chat looks like, whichever framework holds it.
import { useState } from "react";

/** `messages`: `{ id, role, parts: [{ kind: "text" | "thought" | "tool", text, state }] }`; `questions`: `{ id, title, text }`. */
export function Chat({ title, wires, here, messages, questions, status, error, send, stop, resume, answer }) {
  const busy = status === "submitted" || status === "streaming";
  return (
    <main data-status={status}>
      <header>
        <h1>{title}</h1>
        <nav>
          {wires.map((wire) => (
            <a key={wire} href={`#${new URLSearchParams({ chat: here.chat, wire })}`} aria-current={wire === here.wire || undefined}>
              {wire}
            </a>
          ))}
          <a href="#">new chat</a>
        </nav>
      </header>
      <section aria-label="Conversation">
        {messages.length === 0 && <p className="empty">Ask something, and reload the page in the middle of the answer.</p>}
        {messages.map((message) => (
          <article key={message.id} data-role={message.role}>
            {message.parts.map((part, at) => (
              <Part key={at} {...part} />
            ))}
          </article>
        ))}
        {questions.map(({ id, title, text }) => (
          <aside key={id} role="group" aria-label={title}>
            <strong>{title}</strong>
            {text && <p>{text}</p>}
            <button onClick={() => answer(id, true)}>Approve</button>
            <button onClick={() => answer(id, false)}>Decline</button>
          </aside>
        ))}
        {error && (
          <p className="error" role="alert">
            {error.message} {resume && <button onClick={() => resume()}>Go on</button>}
          </p>
        )}
      </section>
      <Composer busy={busy} send={send} stop={stop} />
    </main>
  );
}

function Part({ kind, text, state }) {
  if (kind === "text") return <p className="text">{text}</p>;
  if (kind === "thought") return <p className="thought">{text}</p>;
  return (
    <p className="tool" data-state={state}>
      {text}
    </p>
  );
}

function Composer({ busy, send, stop }) {
  const [text, setText] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (text.trim() === "") return;
    setText("");
    send(text);
  };
  return (
    <form onSubmit={submit}>
      <input aria-label="Message" placeholder="Write a message" value={text} onChange={(event) => setText(event.target.value)} autoFocus />
      {busy ? (
        <button type="button" onClick={() => stop()}>
          Stop
        </button>
      ) : (
        <button>Send</button>
      )}
    </form>
  );
}
