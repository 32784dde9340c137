// @ts-check
// The page: one connection, one conversation at a time, its name behind the # of the address.
import { connect, newId } from "./session-fabric.js";
import { presence } from "./session-fabric-life.js";
import { ChatView } from "./chat.js";
import { keepUnsent, takeUnsent } from "./outbox.js";
import { SessionList } from "./sessions.js";

/** @typedef {import("@session-fabric/client").Conversation} Conversation */
/** @typedef {import("@session-fabric/client/life").Presence} Presence */

const $ = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const TOKEN = "session-fabric.token";

/** `#token=…` is how `fabricctl dev` hands over the token: kept, and taken out of the address. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get("token");
  if (token === null) return;
  localStorage.setItem(TOKEN, token);
  history.replaceState(null, "", `${location.pathname}${location.search}#${given.get("session") ?? ""}`);
}

/** A token that was kept from another day may be nobody's any more: forget it, and try as nobody. */
function forgetToken() {
  if (localStorage.getItem(TOKEN) === null) return;
  localStorage.removeItem(TOKEN);
  location.reload();
}

function device() {
  const known = sessionStorage.getItem("session-fabric.device");
  const id = known ?? newId("tab-");
  sessionStorage.setItem("session-fabric.device", id);
  return id;
}

takeToken();
/** @type {import("@session-fabric/client").Client} */
const client = /** @type {any} */ (connect({ device: device(), token: () => localStorage.getItem(TOKEN) ?? undefined }));
const sessions = new SessionList(client, $("sessions"));
/** @type {Conversation | null} */
let chat = null;
/** @type {Presence | null} */
let present = null;
const view = new ChatView({
  send: (text) => void send(text),
  stop: () => void chat?.stop().catch(() => undefined),
  typed: () => present?.startedTyping(),
  again: (id) => void chat?.resend(id).catch(() => undefined),
});

/** The chat that the address names; none is a new one, which begins with its first message. */
const current = () => decodeURIComponent(location.hash.slice(1));

function show() {
  takeToken();
  const name = current();
  if (chat !== null && chat.session.name === name) return;
  chat?.close();
  present?.close();
  chat = present = null;
  view.clear();
  document.body.classList.remove("sidebar-open");
  if (name !== "") open(name);
  sessions.select(name);
  render();
}

/** @param {string} name */
function open(name) {
  const here = /** @type {Presence} */ (/** @type {any} */ (presence(/** @type {any} */ (client.session(name)))));
  here.on("change", () => here === present && render());
  const opened = client.session(name).conversation({ presence: { name: "demo page" } });
  const unsent = takeUnsent(name);
  opened.on("change", () => {
    // What the log has by now is known when its history is through.
    if (opened.stage === "live") for (const { id, text } of unsent.splice(0)) opened.send(text, id).catch(() => undefined);
    keepUnsent(name, [...unsent, ...opened.sending]);
    if (opened === chat) render();
  });
  chat = opened;
  present = here;
}

/** @param {string} text */
async function send(text) {
  if (chat === null) {
    const name = newId("chat-").slice(0, 15);
    await begin(name, text);
    history.pushState(null, "", `#${name}`);
    show();
  }
  chat?.send(text).then(
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
  const { phase, broker, error } = client.status;
  const state = phase === "live" && !broker ? "broker-lost" : phase;
  document.body.dataset["connection"] = state;
  const words = { live: "Live", connecting: "Connecting", reconnecting: "Reconnecting", closed: "Disconnected", "broker-lost": "Broker lost, waiting" };
  const word = $("connection").querySelector(".word");
  if (word !== null && word.textContent !== words[state]) word.textContent = words[state];
  $("connection").title = [error?.message, `by ${client.status.transport}`].filter(Boolean).join(" · ");
  $("me").textContent = client.participant ?? "";
  const refused = error !== null && phase === "closed" ? error : (chat?.error ?? null);
  $("refused").hidden = refused === null;
  if (refused !== null) {
    const token = ["unauthenticated", "token_expired", "forbidden"].includes(refused.code);
    $("refused-title").textContent = token ? "This page needs a token" : "This chat cannot go on";
    $("refused-text").textContent = token ? "Open the address that fabricctl dev printed, or enter the token here." : refused.message;
    $("token-form").hidden = !token;
    $("refused-new").hidden = token;
  }
  const title = sessions.title(current());
  $("title").textContent = title || "New chat";
  document.title = title ? `${title} · Session Fabric` : "Session Fabric";
  view.render(chat, present, client);
}

client.on("status", ({ error, phase }) => {
  if (error?.code === "token_expired" || (phase === "closed" && error?.code === "unauthenticated")) forgetToken();
  render();
});
client.on("welcome", () => void sessions.refresh());
sessions.changed = render;
addEventListener("hashchange", show);
addEventListener("popstate", show);
addEventListener("pagehide", (event) => event.persisted || client.close());
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  localStorage.setItem(TOKEN, /** @type {HTMLInputElement} */ ($("token")).value.trim());
  location.reload();
});
for (const id of ["open-sidebar", "close-sidebar", "scrim"]) {
  $(id).addEventListener("click", () => {
    const open = document.body.classList.toggle("sidebar-open");
    $("open-sidebar").setAttribute("aria-expanded", String(open));
  });
}
show();

// For the curious, and for tests: what the page knows.
Object.assign(window, { fabric: { client, get chat() { return chat; } } });
