// The hooks, rendered by React in a DOM, over a real gateway, broker and agent. Run on React 19 and on 18: see scripts/test.mjs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Window } from "happy-dom";
import { createElement, type FunctionComponent, StrictMode, version } from "react";
import { version as domVersion } from "react-dom";
import { type Client, connect, newId, type Session } from "../src/index.js";
import { FabricProvider, useConversation, useDocument, useMessages, usePresence, useRequests, useRun, useSession, useStatus } from "../src/react/index.js";
import { eventually, scripted } from "./dev.js";

const window = new Window();
Object.assign(globalThis, { document: window.document, window, navigator: window.navigator });
const { server, script, closes } = await scripted();
closes.unshift(() => window.happyDOM.close());

function client(): Client {
  const made = connect({ url: server.url, token: server.token });
  closes.push(() => made.close());
  return made;
}

interface Page<Props> {
  text(): string;
  render(props: Props): void;
  unmount(): void;
}

/** Render a component into a page of its own, twice over as development does. */
async function render<Props extends object>(component: FunctionComponent<Props>, props: Props, made = client()): Promise<Page<Props>> {
  const { createRoot } = await import("react-dom/client");
  const element = window.document.createElement("div");
  const root = createRoot(element as unknown as Element);
  const show = (now: Props): void => root.render(createElement(StrictMode, null, createElement(FabricProvider, { client: made }, createElement(component, now))));
  show(props);
  closes.push(() => root.unmount());
  return { text: () => element.textContent ?? "", render: show, unmount: () => root.unmount() };
}

const say = (session: Session, text: string): Promise<unknown> =>
  session.append({ type: "message.user", pool: "script", message: { id: newId("m"), role: "user", content: text } });

test("the hooks are run on the React that they are run for", () => {
  for (const found of [version, domVersion]) assert.equal(found.split(".")[0], process.env["REACT"] ?? "19");
});

test("messages and the run that goes on are shown as they come, in every component, and the run is stopped", async () => {
  const name = newId("s");
  const made = client();
  let acts: ReturnType<typeof useRun> | undefined;
  const Chat: FunctionComponent = () => {
    const session = useSession(name);
    const { messages } = useConversation(session);
    acts = useRun(session);
    return createElement("p", null, `${useStatus().phase}: ${messages.map(({ content }) => content).join("|")} (${acts.run?.state ?? "idle"}, ${useMessages(session).length})`);
  };
  const page = await render(Chat, {}, made);
  await say(client().session(name), "say one\nwait\nsay two");
  await eventually(() => page.text() === "live: say one\nwait\nsay two|one  (running, 2)");
  assert.equal((await acts!.control("interrupt")).outcome, "accepted");
  await eventually(() => page.text() === "live: say one\nwait\nsay two|one  (idle, 2)");
});

test("the session is closed with the last component that shows it, and opened again with the next", async () => {
  const name = newId("s");
  const made = client();
  const List: FunctionComponent<{ shown: number }> = ({ shown }) => createElement("div", null, ...Array.from({ length: shown }, (_, key) => createElement(Item, { key })));
  const Item: FunctionComponent = () => createElement("p", null, `${useMessages(useSession(name)).length};`);
  const page = await render(List, { shown: 2 }, made);
  await say(client().session(name), "say one");
  await eventually(() => page.text() === "2;2;");
  page.render({ shown: 0 });
  await eventually(() => !made.session(name).live || null);
  page.render({ shown: 1 });
  await eventually(() => page.text() === "2;");
});

test("what is sent is shown at once, and answers of another device arrive", async () => {
  const name = newId("s");
  let send: ((text: string) => Promise<void>) | undefined;
  const Chat: FunctionComponent = () => {
    const chat = useConversation(useSession(name));
    send = chat.send;
    return createElement("p", null, `${chat.messages.map(({ content }) => content).join("|")}/${chat.sending.map(({ text }) => text).join("|")}`);
  };
  const [a, b] = [await render(Chat, {}), await render(Chat, {})];
  await eventually(() => a.text() === "/" && send !== undefined);
  await send!("hello");
  for (const page of [a, b]) await eventually(() => page.text().startsWith("hello"));
});

test("what is sent without a network is shown to who goes away and comes back, and the session is let go when it has arrived", async () => {
  const name = newId("s");
  let online: (token: string) => void = () => undefined;
  const token = new Promise<string>((resolve) => (online = resolve));
  const made = connect({ url: server.url, token: () => token });
  closes.push(() => made.close());
  let send: ((text: string) => Promise<void>) | undefined;
  const Chat: FunctionComponent = () => {
    const chat = useConversation(useSession(name));
    send = chat.send;
    return createElement("p", null, `${chat.messages.map(({ content }) => content).join("|")}/${chat.sending.map(({ text }) => text).join("|")}`);
  };
  const Page: FunctionComponent<{ chat: boolean }> = ({ chat }) => (chat ? createElement(Chat) : createElement("p", null, "elsewhere"));
  const page = await render(Page, { chat: true }, made);
  await eventually(() => page.text() === "/" && send !== undefined);
  const sent = send!("hello");
  await eventually(() => page.text() === "/hello");
  page.render({ chat: false });
  await eventually(() => page.text() === "elsewhere");
  await new Promise((resolve) => setTimeout(resolve)); // when a session that nobody shows is let go
  page.render({ chat: true });
  await eventually(() => page.text() === "/hello");
  page.render({ chat: false });
  online(server.token);
  await sent;
  await eventually(() => !made.session(name).live && made.status.phase === "live");
  page.render({ chat: true });
  await eventually(() => page.text().startsWith("hello") && page.text().endsWith("/"));
  page.render({ chat: false });
  await eventually(() => !made.session(name).live);
  await send!("on the way out");
  await eventually(() => !made.session(name).live);
});

test("what is asked is answered by a component, once", async () => {
  const name = newId("s");
  let asked: ReturnType<typeof useRequests> | undefined;
  const Asked: FunctionComponent = () => {
    asked = useRequests(useSession(name));
    return createElement("p", null, asked.open.map(({ title }) => title).join());
  };
  const page = await render(Asked, {});
  const said = script.order({ do: "approve", session: name, run: newId("r") });
  await eventually(() => page.text() === "Delete 3 files?");
  await asked!.answer(asked!.open[0]!.request, { approved: true });
  assert.equal(((await said) as { approved: boolean }).approved, true);
  await eventually(() => page.text() === "");
});

test("who is there is shown, until he leaves", async () => {
  const name = newId("s");
  const People: FunctionComponent<{ who: string }> = ({ who }) => {
    const { members } = usePresence(useSession(name), { name: who });
    return createElement("p", null, members.map(({ data }) => data?.["name"]).sort().join());
  };
  const ada = await render(People, { who: "Ada" }, connectAs("user:ada"));
  const bob = await render(People, { who: "Bob" }, connectAs("user:bob"));
  await eventually(() => ada.text() === "Ada,Bob" && bob.text() === "Ada,Bob");
  bob.unmount();
  await eventually(() => ada.text() === "Ada");
});

function connectAs(participant: string): Client {
  const made = connect({ url: server.url, token: server.tokenFor(participant) });
  closes.push(() => made.close());
  return made;
}

test("a shared document is the same in two components, and a write that lost says so", async () => {
  const name = newId("s");
  const documents: ReturnType<typeof useDocument>[] = [];
  const Plan: FunctionComponent<{ n: number }> = ({ n }) => {
    documents[n] = useDocument(useSession(name), "plan");
    return createElement("p", null, JSON.stringify(documents[n]!.document?.body ?? null));
  };
  const pages = [await render(Plan, { n: 0 }), await render(Plan, { n: 1 })];
  await eventually(() => documents.length === 2 && documents.every((one) => one.document?.revision === 0));
  const stale = documents[1]!;
  await documents[0]!.put({ steps: 1 });
  for (const page of pages) await eventually(() => page.text() === '{"steps":1}');
  await assert.rejects(stale.put({ steps: 2 }), (error: { code: string }) => error.code === "conflict");
});

test("what is shown on a client that is over says why it is, and takes nothing else of the page with it", async () => {
  const made = connect({ url: server.url, token: server.tokenFor("user:late", undefined, -10) });
  closes.push(() => made.close());
  await eventually(() => made.status.phase === "closed");
  const Chat: FunctionComponent = () => {
    const session = useSession("late");
    const { error, stage } = useConversation(session);
    useMessages(session);
    useDocument(session, "plan");
    useRun(session);
    return createElement("p", null, `${stage}: ${error?.code}, ${useRequests(session).open.length} asked, ${usePresence(session, {}).members.length} here`);
  };
  const page = await render(Chat, {}, made);
  await eventually(() => page.text() === "ended: token_expired, 0 asked, 0 here", 3_000);
  page.unmount();
});
