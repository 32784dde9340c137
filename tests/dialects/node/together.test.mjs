// Three frameworks on one session: what each of them shows is the same conversation.
import { HttpAgent } from "@ag-ui/client";
import { ChatClient, fetchServerSentEvents } from "@tanstack/ai-client";
import { AbstractChat, DefaultChatTransport } from "ai";
import { describe, expect, test } from "vitest";
import { GATEWAY, api, bearer, eventually, fresh, go } from "./house.mjs";
import { guide } from "./guide.mjs";

class State {
  messages = [];
  status = "ready";
  error = undefined;
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (at, message) => (this.messages = this.messages.with(at, structuredClone(message)));
  snapshot = (thing) => structuredClone(thing);
}

const textOf = ({ parts }) =>
  parts
    .filter((part) => part.type === "text")
    .map((part) => part.text ?? part.content)
    .join("");

/** A page of the AI SDK, as it is loaded: with what its session has. */
async function aiSdk(session) {
  const Chat = class extends AbstractChat {};
  const transport = new DefaultChatTransport({ api: `${GATEWAY}/v1/ai-sdk/chat`, headers: bearer() });
  const chat = new Chat({ id: session, state: new State(), transport });
  chat.messages = (await api("GET", `/ai-sdk/chat/${session}/messages`)).body.messages ?? [];
  const shown = () => chat.messages.map((message) => [message.role, textOf(message)]);
  return { say: (text) => chat.sendMessage({ text }), resume: () => chat.resumeStream(), shown };
}

/** A page of TanStack's, as it is loaded. */
async function tanstack(session) {
  const connection = fetchServerSentEvents(`${GATEWAY}/v1/tanstack/${session}`, { headers: bearer() });
  const client = new ChatClient({ threadId: session, connection, persistence: true });
  client.attach();
  const shown = () => client.getMessages().map((message) => [message.role, textOf(message)]);
  return { say: (text) => client.sendMessage(text), shown };
}

async function agUi(session) {
  const agent = new HttpAgent({ url: `${GATEWAY}/v1/ag-ui`, threadId: session, headers: bearer() });
  const shown = () => agent.messages.map(({ role, content }) => [role, content]);
  const say = (content) => {
    agent.addMessage({ id: fresh("u"), role: "user", content });
    return agent.runAgent();
  };
  return { say, shown };
}

test("each shows what was said through the others, the answer that is under way included", async () => {
  const session = fresh("together");
  await (await aiSdk(session)).say("echo One");
  await (await tanstack(session)).say("echo Two");
  const writer = await agUi(session);
  const writing = writer.say("hold");
  const expected = (rest) => [
    ["user", "echo One"],
    ["assistant", "One "],
    ["user", "echo Two"],
    ["assistant", "Two "],
    ["user", "hold"],
    ["assistant", rest],
  ];
  await eventually(() => writer.shown().at(-1)?.[1] === "Half 🙂 ", "half of the answer");
  expect(writer.shown()).toEqual(expected("Half 🙂 "));
  const pages = [await aiSdk(session), await tanstack(session), await tanstack(session)];
  const resumed = pages[0].resume();
  for (const page of pages) await eventually(() => page.shown().at(-1)?.[1] === "Half 🙂 ", "half, on a page");
  await go(session);
  await Promise.all([writing, resumed]);
  for (const page of [writer, ...pages]) {
    await eventually(() => page.shown().at(-1)[1] === "Half 🙂 and half.", "the answer");
    expect(page.shown()).toEqual(expected("Half 🙂 and half."));
  }
});

describe("the guides", () => {
  test("of AG-UI and of TanStack say what works", async () => {
    const { agent, attached } = await guide("ag-ui.md");
    expect(agent.messages.map(({ content }) => content)).toEqual(["echo Hello", "Hello "]);
    expect(attached.messages).toEqual(agent.messages);
    const { client } = await guide("tanstack-ai.md");
    expect(client.getMessages().map(textOf).slice(-2)).toEqual(["echo Hello", "Hello "]);
  });
});
