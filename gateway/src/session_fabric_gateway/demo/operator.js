// @ts-check
// The page of an operator: which sessions want a person, and one of them, watched, whispered into or taken over.
import { ChatView } from "./chat.js";
import { Composer } from "./composer.js";
import { $, connected, named, narrowSidebar, OPERATOR, renderConnection, takeTokens } from "./connection.js";
import { Opened } from "./opened.js";
import { PeopleView } from "./people.js";
import { whisper } from "./session-fabric-life.js";
import { SessionList } from "./sessions.js";
import { Wanted } from "./wanted.js";

/** @typedef {import("./composer.js").Mode} Mode */

/** Where no token is asked for, this says who one is. */
const ANYBODY = "operator:eve";
/** So many of the newest sessions are watched for offers. */
const MOST_WATCHED = 40;
/** Whoever wants a person is seen soon. */
const REFRESH_MS = 3_000;
/** @type {Mode} */
const WHISPER = { id: "whisper", label: "Whisper to the agent", placeholder: "Only agents and operators read this" };
/** @type {Mode} */
const SPEAK = { id: "speak", label: "Speak as the assistant", placeholder: "Answer in the agent's place" };
/** @type {Mode} */
const STEER = { id: "steer", label: "Add to this answer", placeholder: "Add this while it works" };

takeTokens(OPERATOR);
const client = connected(OPERATOR, ANYBODY);
const sessions = new SessionList(client, $("sessions"), REFRESH_MS);
const people = new PeopleView();
/** By name: what is watched. @type {Map<string, Opened>} */
const watched = new Map();
const wanted = new Wanted($("wanted"), (name, offer, accepted) => void decide(name, offer, accepted));
/** @type {Opened | null} */
let opened = null;
const view = new ChatView({ send: () => undefined, again: () => undefined }, client);
const composer = new Composer({
  send: (text, mode) => (view.toEnd(), void send(text, mode)),
  stop: () => void act((here) => here.chat.stop()),
  typed: () => mine() && opened?.presence.startedTyping(),
  cancelEdit: () => undefined,
});

const mine = () => opened !== null && opened.floor.current?.participant === client.participant;

/** @param {string} name */
function watch(name) {
  const known = watched.get(name);
  if (known !== undefined && known.chat.stage !== "ended") return known;
  known?.close();
  const made = new Opened(client, name, null, () => render());
  watched.set(name, made);
  return made;
}

function watchAll() {
  const newest = sessions.records.slice(0, MOST_WATCHED).map(({ session }) => session);
  for (const name of newest) watch(name);
  for (const [name, one] of watched) {
    if (newest.includes(name) || one === opened || (one.floor.current?.participant ?? "") === client.participant) continue;
    one.close();
    watched.delete(name);
  }
}

function show() {
  takeTokens(OPERATOR);
  const name = named();
  if (opened !== null && opened.name === name) return;
  view.clear();
  opened = name === "" ? null : watch(name);
  document.body.classList.remove("sidebar-open");
  sessions.select(name);
  render();
}

/** @param {(here: Opened) => Promise<unknown>} what */
async function act(what) {
  composer.trouble("");
  if (opened === null) return;
  try {
    await what(opened);
  } catch (error) {
    composer.trouble(/** @type {Error} */ (error).message);
  }
}

/** @param {Opened} here */
const appear = (here) => here.presence.update({ data: { name: "operator page" } }).catch(() => undefined);

/** @param {string} name @param {string} offer @param {boolean} accepted */
async function decide(name, offer, accepted) {
  const here = watch(name);
  if (accepted) {
    location.hash = `#${encodeURIComponent(name)}`;
    show();
  }
  await act(async () => {
    await (accepted ? here.floor.accept(offer) : here.floor.decline(offer));
    if (accepted) await appear(here);
  });
  composer.input.focus();
}

/** @param {string} text @param {string} mode */
async function send(text, mode) {
  await act((here) => {
    if (mode === "speak") return here.floor.say(text);
    if (mode === "steer" && here.run !== undefined) return here.steer(here.run.id, text);
    return whisper(here.session, text);
  });
  if ($("trouble").textContent !== "" && composer.input.value === "") {
    composer.input.value = text; // not said: it is not lost
    composer.fit();
  }
}

let scheduled = false;
let held = false;
/** Once for all that changes at a time: many sessions are watched. */
function render() {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => ((scheduled = false), paint()), 20);
}

function paint() {
  renderConnection(client, opened?.chat.error ?? null);
  const title = opened === null ? "Sessions" : sessions.title(opened.name);
  $("title").textContent = title;
  const waiting = wanted.render([...watched.values()], sessions, client.participant ?? ANYBODY);
  document.title = `${waiting > 0 ? `(${waiting}) ` : ""}${title} · Operator`;
  view.render(opened);
  people.render(opened, client.participant ?? ANYBODY);
  const busy = opened?.run !== undefined;
  $("stop").hidden = !busy;
  $("take").hidden = opened === null || mine();
  $("give-back").hidden = !mine();
  // Who has taken over speaks; who has given back speaks no more.
  const turned = held !== mine();
  held = mine();
  composer.offer(held ? [SPEAK, WHISPER] : busy ? [WHISPER, STEER] : [WHISPER]);
  if (turned) composer.choose(held ? SPEAK.id : WHISPER.id);
  $("composer").hidden = opened === null;
}

$("take").addEventListener("click", () => void act(async (here) => {
  await here.floor.take();
  await appear(here);
  composer.input.focus();
}));
$("give-back").addEventListener("click", () => void act(async (here) => {
  await here.floor.giveBack();
  await here.presence.leave();
}));
client.on("status", render);
client.on("welcome", () => void sessions.refresh());
sessions.changed = () => (watchAll(), render());
addEventListener("hashchange", show);
addEventListener("popstate", show);
narrowSidebar();
show();

Object.assign(window, { fabric: { client, watched, get chat() { return opened?.chat ?? null; }, get opened() { return opened; } } });
