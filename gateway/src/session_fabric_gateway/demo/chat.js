// @ts-check
// The conversation and its composer.
import { avatar, failureNote, MessageView, nameOf, SendingView } from "./message.js";
import { tag } from "./markdown.js";

/** @typedef {import("@session-fabric/client").Conversation} Conversation */
/** @typedef {import("@session-fabric/client").Client} Client */
/** @typedef {import("@session-fabric/client/life").Presence} Presence */
/** @typedef {import("@session-fabric/client").Message} Message */
/** @typedef {import("@session-fabric/client").Run} Run */
/** @typedef {import("@session-fabric/client").Sending} Sending */
/** @typedef {{key: string, message?: Message, failed?: Run, sending?: Sending}} Item */
/** @typedef {{send(text: string): void, stop(): void, typed(): void, again(id: string): void}} Actions */

const $ = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const EXAMPLES = [
  "How does a client resume after a lost connection?",
  "What happens when the same event id is sent twice?",
  "What does close code 4408 mean?",
];
/** So near the end counts as at the end: new text scrolls along. */
const NEAR_PX = 80;

export class ChatView {
  /** @param {Actions} actions */
  constructor(actions) {
    this.actions = actions;
    /** @type {Map<string, MessageView | SendingView | {element: HTMLElement}>} */
    this.views = new Map();
    this.input = /** @type {HTMLTextAreaElement} */ ($("text"));
    this.atEnd = true;
    this.members = "";
    $("examples").append(...EXAMPLES.map((text) => {
      const button = tag("button", [text]);
      button.addEventListener("click", () => actions.send(text));
      return tag("li", [button]);
    }));
    $("composer").addEventListener("submit", (event) => (event.preventDefault(), this.submit()));
    $("stop").addEventListener("click", actions.stop);
    this.input.addEventListener("input", () => (this.fit(), this.input.value !== "" && actions.typed()));
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    const scroller = $("scroller");
    scroller.addEventListener("scroll", () => {
      this.atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_PX;
      $("to-end").hidden = this.atEnd;
    }, { passive: true });
    $("to-end").addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(scroller);
  }

  submit() {
    const text = this.input.value.trim();
    if (text === "") return;
    this.input.value = "";
    this.fit();
    this.toEnd();
    this.actions.send(text);
  }

  fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, 200)}px`;
    /** @type {HTMLButtonElement} */ ($("send")).disabled = this.input.value.trim() === "";
  }

  toEnd() {
    const scroller = $("scroller");
    scroller.scrollTop = scroller.scrollHeight;
    this.atEnd = true;
    $("to-end").hidden = true;
  }

  clear() {
    this.views.clear();
    $("log").replaceChildren();
    this.atEnd = true;
    if (matchMedia("(pointer: fine)").matches) this.input.focus();
  }

  /** @param {Conversation | null} chat @param {Presence | null} present @param {Client} client */
  render(chat, present, client) {
    const me = client.participant ?? "user:you";
    const stage = chat?.stage ?? "new";
    $("scroller").dataset["stage"] = stage;
    this.renderLog(chat, me, client.status.phase === "live");
    this.renderMembers(chat, present, me);
    $("welcome").hidden = this.views.size > 0 || (chat !== null && stage !== "live");
    const runs = chat?.activeRuns ?? [];
    $("stop").hidden = runs.length === 0;
    $("typing").textContent = typingText((present?.typing ?? []).map(nameOf));
    const thinking = chat === null ? "" : thinkingText(chat);
    $("thinking").hidden = thinking === "";
    const word = $("thinking").querySelector(".word");
    if (word !== null && word.textContent !== thinking) word.textContent = thinking;
    if (this.atEnd) this.toEnd();
  }

  /** @param {Conversation | null} chat @param {string} me @param {boolean} live */
  renderLog(chat, me, live) {
    const wanted = chat === null ? [] : inOrder(chat);
    const keep = new Set(wanted.map(({ key }) => key));
    for (const [key, { element }] of this.views) if (!keep.has(key)) (element.remove(), this.views.delete(key));
    const log = $("log");
    wanted.forEach((item, index) => {
      let view = this.views.get(item.key);
      if (view === undefined) {
        if (item.message !== undefined) view = new MessageView(item.message, item.message.actor === me);
        else if (item.sending !== undefined) view = new SendingView(item.sending, me, this.actions.again);
        else if (item.failed !== undefined) view = { element: failureNote(item.failed) };
        else return;
        this.views.set(item.key, view);
      }
      if (view instanceof MessageView && item.message !== undefined) view.update(item.message, chat?.runs.get(item.message.run ?? ""));
      if (view instanceof SendingView && item.sending !== undefined) view.update(item.sending, live);
      if (log.children[index] !== view.element) log.insertBefore(view.element, log.children[index] ?? null);
    });
  }

  /** @param {Conversation | null} chat @param {Presence | null} present @param {string} me */
  renderMembers(chat, present, me) {
    const here = new Map((present?.members ?? []).map((member) => [member.participant, ""]));
    for (const run of chat?.activeRuns ?? []) here.set(run.agent, "working");
    const key = JSON.stringify([...here]) + me;
    if (key === this.members) return;
    this.members = key;
    $("members").replaceChildren(...[...here].map(([participant, status]) => {
      const pill = tag("li", [avatar(participant), tag("span", [participant === me && nameOf(me) !== "you" ? `${nameOf(me)} (you)` : nameOf(participant)])]);
      pill.dataset["participant"] = participant;
      pill.dataset["status"] = status || "here";
      pill.title = `${participant}${status ? `, ${status}` : ""}`;
      return pill;
    }));
  }
}

/**
 * What the log shows, oldest first; ours that are on their way stand at the end.
 * @param {Conversation} chat
 * @returns {Item[]}
 */
function inOrder(chat) {
  const failed = [...chat.runs.values()].filter(({ state }) => state === "failed");
  const said = [
    ...chat.messages.map((message) => ({ at: message.first, key: message.id, message })),
    ...failed.map((run) => ({ at: run.since, key: `run ${run.id}`, failed: run })),
  ];
  said.sort((a, b) => (a.at < b.at ? -1 : 1));
  return [...said, ...chat.sending.map((sending) => ({ key: `sending ${sending.id}`, sending }))];
}

/** @param {Conversation} chat */
function thinkingText(chat) {
  const run = chat.activeRuns.at(-1);
  if (run === undefined) return "";
  const agent = nameOf(run.agent);
  const open = chat.messages.filter((message) => message.run === run.id && message.status === "open");
  const last = open.at(-1);
  const call = last?.toolCalls.find(({ result }) => result === null);
  if (call !== undefined) return `${agent} is using ${call.name}`;
  if (last !== undefined && last.content !== "") return `${agent} is writing`;
  return `${agent} is thinking`;
}

/** @param {string[]} names */
function typingText(names) {
  if (names.length === 0) return "";
  return names.length === 1 ? `${names[0]} is typing…` : `${names.slice(0, 3).join(", ")} are typing…`;
}
