// @ts-check
// The conversation: what was said and asked, in order, and what the agents are at.
import { AskView } from "./asks.js";
import { $ } from "./connection.js";
import { failureNote, MessageView, nameOf, SendingView } from "./message.js";
import { noteView, SteerView } from "./notes.js";

/** @typedef {import("@session-fabric/client").Client} Client */
/** @typedef {import("@session-fabric/client").Message} Message */
/** @typedef {import("@session-fabric/client").Run} Run */
/** @typedef {import("@session-fabric/client").Sending} Sending */
/** @typedef {import("./opened.js").Opened} Opened */
/** @typedef {import("./timeline.js").Entry} Entry */
/** @typedef {{key: string, message?: Message, last?: boolean, failed?: Run, sending?: Sending, entry?: Entry}} Item */
/** @typedef {import("./message.js").Acts} Acts */
/** @typedef {{send(text: string): void, again(id: string): void, edit?(message: Message): void, select?(id: string): void, regenerate?(id: string): void}} Actions */

/** So near the end counts as at the end: new text scrolls along. */
const NEAR_PX = 80;

export class ChatView {
  /** @param {Actions} actions @param {Client} client */
  constructor(actions, client) {
    this.actions = actions;
    this.client = client;
    /** @type {Map<string, MessageView | SendingView | AskView | SteerView | {element: HTMLElement}>} */
    this.views = new Map();
    this.atEnd = true;
    const scroller = $("scroller");
    scroller.addEventListener("scroll", () => {
      this.atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_PX;
      $("to-end").hidden = this.atEnd;
    }, { passive: true });
    $("to-end").addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(scroller);
    setInterval(() => this.views.forEach((view) => view instanceof AskView && view.tick()), 1_000);
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
  }

  /** @param {Opened | null} opened */
  render(opened) {
    const stage = opened?.chat.stage ?? "new";
    $("scroller").dataset["stage"] = stage;
    this.renderLog(opened);
    $("welcome").hidden = this.views.size > 0 || (opened !== null && stage !== "live");
    const thinking = opened === null ? "" : thinkingText(opened);
    $("thinking").hidden = thinking === "";
    const word = $("thinking").querySelector(".word");
    if (word !== null && word.textContent !== thinking) word.textContent = thinking;
    if (this.atEnd) this.toEnd();
  }

  /** @param {Opened | null} opened */
  renderLog(opened) {
    const wanted = opened === null ? [] : inOrder(opened);
    const keep = new Set(wanted.map(({ key }) => key));
    for (const [key, { element }] of this.views) if (!keep.has(key)) (element.remove(), this.views.delete(key));
    const log = $("log");
    wanted.forEach((item, index) => {
      if (opened === null) return;
      const view = this.views.get(item.key) ?? this.make(item, opened);
      this.views.set(item.key, view);
      if (view instanceof MessageView && item.message !== undefined) view.update(item.message, opened.chat.runs.get(item.message.run ?? ""), this.acts(item.message, item.last === true, opened));
      if (view instanceof SendingView && item.sending !== undefined) view.update(item.sending, this.client.status.phase === "live");
      if (view instanceof AskView && item.entry?.kind === "ask") view.update(item.entry);
      if (view instanceof SteerView && item.entry?.kind === "steer") view.update(item.entry);
      if (log.children[index] !== view.element) log.insertBefore(view.element, log.children[index] ?? null);
    });
  }

  /** What may be done with a message; `last` of its run. @param {Message} message @param {boolean} last @param {Opened} opened @returns {Acts} */
  acts(message, last, { chat }) {
    const { edit, select, regenerate } = this.actions;
    const { ids, index } = chat.siblings(message.id);
    const asked = chat.runs.get(message.run ?? "")?.message;
    const done = message.status !== "open";
    return {
      siblings: ids,
      index,
      select: select ?? null,
      edit: edit !== undefined && message.role === "user" && message.actor === this.client.participant ? () => edit(message) : null,
      again: regenerate !== undefined && asked != null && last && done ? () => regenerate(asked) : null,
    };
  }

  /** @param {Item} item @param {Opened} opened */
  make({ message, failed, sending, entry }, opened) {
    const { client } = this;
    const me = client.participant ?? "user:you";
    if (message !== undefined) return new MessageView(message, message.actor === me && message.role === "user");
    if (sending !== undefined) return new SendingView(sending, me, this.actions.again);
    if (failed !== undefined) return { element: failureNote(failed) };
    if (entry?.kind === "ask") {
      const { requests } = opened;
      return new AskView(entry, {
        me,
        device: client.device,
        mine: (request) => requests.mine(request),
        answer: (request, body) => requests.answer(request, body),
      });
    }
    if (entry?.kind === "steer") return new SteerView(entry, entry.actor === me ? () => this.actions.send(entry.text) : null);
    return noteView(/** @type {import("./timeline.js").Note} */ (entry));
  }
}

/**
 * What the log shows, oldest first; ours that are on their way stand at the end.
 * @param {Opened} opened
 * @returns {Item[]}
 */
function inOrder({ chat, timeline, shown }) {
  const failed = [...chat.runs.values()].filter(({ state, id }) => state === "failed" && shown.has(id));
  const lasts = new Map(shown.messages.map(({ run, id }) => [run, id]));
  const said = [
    ...shown.messages.map((message) => ({ at: message.first, key: message.id, message, last: lasts.get(message.run) === message.id })),
    ...failed.map((run) => ({ at: run.since, key: `run ${run.id}`, failed: run })),
    ...timeline.all.filter(({ run }) => shown.has(run)).map((entry) => ({ at: entry.at, key: entry.key, entry })),
  ];
  said.sort((a, b) => (a.at < b.at ? -1 : 1));
  return [...said, ...chat.sending.map((sending) => ({ key: `sending ${sending.id}`, sending }))];
}

/** @param {Opened} opened */
function thinkingText({ chat, timeline, run }) {
  if (run === undefined) return "";
  const agent = nameOf(run.agent);
  if (timeline.open.some((ask) => ask.run === run.id)) return `${agent} is waiting for an answer`;
  const open = chat.messages.filter((message) => message.run === run.id && message.status === "open");
  const last = open.at(-1);
  const call = last?.toolCalls.find(({ result }) => result === null);
  if (call !== undefined) return `${agent} is using ${call.name}`;
  if (last !== undefined && last.content !== "") return `${agent} is writing`;
  return `${agent} is thinking`;
}
