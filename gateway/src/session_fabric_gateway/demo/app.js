// @ts-check
// The page of a user: one connection, one conversation at a time, its name behind the # of the address.
import { newId } from "./session-fabric.js";
import { clientTools } from "./session-fabric-life.js";
import { ChatView } from "./chat.js";
import { Composer } from "./composer.js";
import { $, connected, named, narrowSidebar, OPERATOR, renderConnection, takeTokens, USER } from "./connection.js";
import { Opened } from "./opened.js";
import { keepUnsent, takeUnsent } from "./outbox.js";
import { PeopleView } from "./people.js";
import { Reading, unreadIn } from "./reading.js";
import { SessionList } from "./sessions.js";
import { pageTools } from "./tools.js";
import { tag } from "./markdown.js";

/** @typedef {import("./composer.js").Mode} Mode */

const EXAMPLES = [
  "How does a client resume after a lost connection?",
  "What happens when the same event id is sent twice?",
  "Delete the old drafts (it asks you first)",
  "What do you know about this page? (a tool in your browser)",
  "I want to talk to a person",
];
/** @type {Mode} */
const SAY = { id: "say", label: "Ask", placeholder: "Ask a question" };
/** @type {readonly Mode[]} */
const BUSY = [
  { ...SAY, label: "After this answer" },
  { id: "steer", label: "Add to this answer", placeholder: "Add this while you work" },
  { id: "redirect", label: "Do this instead", placeholder: "Stop, and do this instead" },
];

takeTokens(USER);
const client = connected(USER);
const sessions = new SessionList(client, $("sessions"));
const people = new PeopleView();
/** @type {Opened | null} */
let opened = null;
/** @type {Reading | null} */
let reading = null;
/** Lets go of what is open. @type {() => void} */
let leave = () => undefined;
/** What is being said in another way. @type {import("@session-fabric/client").Message | null} */
let edited = null;
const view = new ChatView({
  send: (text) => void say(text),
  again: (id) => void opened?.chat.resend(id).catch(() => undefined),
  edit: (message) => edit(message),
  select: (id) => void attempt((here) => here.branches.select(id)),
  regenerate: (id) => void attempt((here) => here.branches.regenerate(id)),
}, client);
const composer = new Composer({
  send: (text, mode) => (view.toEnd(), void send(text, mode)),
  stop: () => void opened?.chat.stop().catch(() => undefined),
  typed: () => opened?.presence.startedTyping(),
  cancelEdit: () => edit(null),
});

function show() {
  takeTokens(USER);
  const name = named();
  if (opened !== null && opened.name === name) return;
  leave();
  leave = () => undefined;
  opened = reading = null;
  view.clear();
  edit(null);
  if (matchMedia("(pointer: fine)").matches) composer.input.focus();
  document.body.classList.remove("sidebar-open");
  if (name !== "") open(name);
  sessions.select(name);
  render();
}

/** @param {string} name */
function open(name) {
  const here = new Opened(client, name, { name: "demo page" }, () => here === opened && render());
  const unsent = takeUnsent(name);
  here.chat.on("change", () => {
    // What the log has by now is known when its history is through.
    if (here.chat.stage === "live") for (const { id, text } of unsent.splice(0)) here.chat.send(text, id).catch(() => undefined);
    keepUnsent(name, [...unsent, ...here.chat.sending]);
  });
  const tools = clientTools(/** @type {any} */ (here.session), pageTools, { requests: /** @type {any} */ (here.requests) });
  const read = new Reading(here, () => here === opened && render());
  leave = () => (read.close(), tools.close(), here.close());
  opened = here;
  reading = read;
}

/** @param {string} text @param {string} mode */
async function send(text, mode) {
  const run = opened?.run;
  const instead = edited;
  if (instead !== null) {
    edit(null);
    return attempt((here) => here.branches.edit(instead, text));
  }
  if (opened === null || run === undefined || mode === "say") return say(text);
  try {
    if (mode === "steer") await opened.steer(run.id, text);
    else await opened.redirect(run.id, newId("m"), text);
  } catch (error) {
    const { code, message } = /** @type {import("@session-fabric/client").FabricError} */ (error);
    // It has come to its end meanwhile: then it is said behind it.
    if (code === "run_closed" || code === "run_not_found") return say(text);
    composer.trouble(`“${text.slice(0, 60)}” did not reach the agent: ${message}`);
  }
}

/** @param {(here: Opened) => Promise<unknown>} what */
async function attempt(what) {
  composer.trouble("");
  try {
    if (opened !== null) await what(opened);
  } catch (error) {
    composer.trouble(/** @type {Error} */ (error).message);
  }
}

/** @param {import("@session-fabric/client").Message | null} message */
function edit(message) {
  if (message === null && edited === null) return;
  edited = message;
  composer.edit(message === null ? null : { text: String(message.content) });
  render();
}

/** @param {string} text */
async function say(text) {
  if (opened === null) {
    const name = newId("chat-").slice(0, 15);
    await begin(name, text);
    history.pushState(null, "", `#${name}`);
    show();
  }
  opened?.chat.send(text).then(
    () => void sessions.refresh(),
    () => undefined, // shown beside the message, with a way to try again
  );
}

/** Make the session with its title, so that other devices list it by that; without an answer, do without.
 * @param {string} session @param {string} text */
async function begin(session, text) {
  const title = text.split("\n")[0]?.slice(0, 60) ?? "";
  try {
    await client.http.json("POST", "/v1/sessions", { body: { session, labels: { title } }, signal: AbortSignal.timeout(2_000) });
  } catch {
    // The first message makes the session too.
  }
}

function render() {
  renderConnection(client, opened?.chat.error ?? null);
  const title = sessions.title(named());
  $("title").textContent = title || "New chat";
  document.title = title ? `${title} · Session Fabric` : "Session Fabric";
  view.render(opened);
  const seen = reading?.by(client.participant ?? "") ?? "";
  if ($("seen").textContent !== seen) $("seen").textContent = seen;
  if (view.atEnd) reading?.seen();
  people.render(opened, client.participant ?? "user:you");
  $("stop").hidden = opened?.run === undefined;
  composer.offer(opened?.run === undefined || edited !== null ? [SAY] : BUSY);
  // Where no token is asked for, everybody may be an operator.
  $("operator").hidden = localStorage.getItem(OPERATOR) === null && localStorage.getItem(USER) !== null;
}

$("examples").append(...EXAMPLES.map((text) => {
  const button = tag("button", [text]);
  button.addEventListener("click", () => void say(text));
  return tag("li", [button]);
}));
client.on("status", render);
client.on("welcome", () => void sessions.refresh());
sessions.changed = render;
sessions.unread = (/** @type {string} */ name) => unreadIn(client.session(name), client.participant ?? "");
document.addEventListener("visibilitychange", render);
addEventListener("hashchange", show);
addEventListener("popstate", show);
narrowSidebar();
show();

// For the curious, and for tests: what the page knows.
Object.assign(window, { fabric: { client, get chat() { return opened?.chat ?? null; }, get opened() { return opened; } } });
