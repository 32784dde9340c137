// @ts-check
// One message on the page: made once, then brought up to date.
import { link, renderMarkdown, tag } from "./markdown.js";

/** @typedef {import("@session-fabric/client").Message} Message */
/** @typedef {import("@session-fabric/client").ToolCall} ToolCall */
/** @typedef {import("@session-fabric/client").Run} Run */
/** @typedef {import("@session-fabric/client").Sending} Sending */
/** @typedef {{siblings: readonly string[], index: number, select: ((id: string) => void) | null, edit: (() => void) | null, again: (() => void) | null}} Acts */

const ACTIVE = ["claimed", "running", "suspended"];

/**
 * @param {string} participant
 * @returns {string} the name that people read
 */
export const nameOf = (participant) => participant.slice(participant.indexOf(":") + 1) || participant;

/** @param {string} participant */
export function avatar(participant) {
  const element = tag("span", [participant.startsWith("agent:") ? "✦" : [...nameOf(participant)][0]?.toUpperCase() ?? "?"]);
  element.className = "avatar";
  let mixed = 7;
  for (const letter of participant) mixed = Math.imul(mixed ^ (letter.codePointAt(0) ?? 0), 0x9e3779b1) >>> 0;
  element.style.setProperty("--hue", String(mixed % 360));
  element.setAttribute("aria-hidden", "true");
  return element;
}

export class MessageView {
  /** @param {Message} message @param {boolean} mine */
  constructor(message, mine) {
    this.element = tag("article");
    this.element.className = mine ? "message mine" : "message";
    this.element.dataset["messageId"] = message.id;
    this.element.dataset["role"] = message.role;
    const head = tag("header", [avatar(message.actor), tag("b", [nameOf(message.actor)])]);
    if (/^(operator|supervisor):/.test(message.actor)) head.append(roleTag(message.actor));
    if (message.ts !== null) {
      const time = /** @type {HTMLTimeElement} */ (tag("time", [clock(message.ts)]));
      time.dateTime = new Date(message.ts).toISOString();
      head.append(time);
    }
    this.reasoning = tag("details", [tag("summary", ["Thoughts"]), tag("p")]);
    this.reasoning.className = "reasoning";
    this.tools = tag("div");
    this.text = tag("div");
    this.text.className = "text";
    this.text.dataset["text"] = "";
    this.foot = tag("footer");
    this.acts = tag("div");
    this.acts.className = "acts";
    this.actsShown = "";
    this.element.append(head, this.reasoning, this.tools, this.text, this.foot, this.acts);
    /** @type {Map<string, ToolView>} */
    this.calls = new Map();
    /** @type {Message | null} */
    this.shown = null;
    /** @type {string | null} */
    this.state = null;
  }

  /** @param {Message} message @param {Run | undefined} run @param {Acts} acts */
  update(message, run, acts) {
    this.updateActs(acts);
    const state = run === undefined ? null : run.state;
    if (message === this.shown && state === this.state) return;
    this.shown = message;
    this.state = state;
    const { element } = this;
    const content = typeof message.content === "string" ? message.content : partsText(message.content);
    element.dataset["status"] = message.status;
    element.dataset["role"] = message.role;
    element.setAttribute("aria-busy", String(message.status === "open"));
    if (message.role === "user") this.text.textContent = content;
    else renderMarkdown(this.text, content);
    this.text.hidden = content === "";
    this.reasoning.hidden = message.reasoning === "";
    const thoughts = this.reasoning.lastElementChild;
    if (thoughts !== null) thoughts.textContent = message.reasoning;
    if (message.redacted) {
      this.calls.clear();
      this.tools.replaceChildren();
    }
    for (const call of message.toolCalls) {
      let view = this.calls.get(call.id);
      if (view === undefined) {
        view = new ToolView(call);
        this.calls.set(call.id, view);
        this.tools.append(view.element);
      }
      view.update(call, message.status !== "open" && call.result === null && !ACTIVE.includes(state ?? ""));
    }
    this.foot.textContent = message.redacted
      ? "Removed"
      : message.status === "interrupted" || (state === "cancelled" && message.role !== "user")
        ? state === "orphaned" ? "The agent was lost" : "Stopped"
        : message.status === "failed" ? "Failed" : "";
    this.foot.hidden = this.foot.textContent === "";
  }

  /** @param {Acts} acts */
  updateActs({ siblings, index, select, edit, again }) {
    const many = siblings.length > 1 && index >= 0;
    const key = JSON.stringify([many && siblings, index, edit !== null, again !== null]);
    // What the buttons call was right when they were made, and is as long as nothing else of this changes.
    if (key === this.actsShown) return;
    const focused = this.acts.contains(document.activeElement);
    this.actsShown = key;
    const to = (/** @type {string} */ label, /** @type {string} */ text, /** @type {number} */ at) => {
      const id = siblings[at];
      const button = act(label, text, () => id !== undefined && select?.(id));
      button.disabled = id === undefined || select === null;
      return button;
    };
    const count = tag("span", [`${index + 1}/${siblings.length}`]);
    count.setAttribute("aria-label", `Version ${index + 1} of ${siblings.length}`);
    this.acts.replaceChildren(
      ...(many ? [to("Previous version", "‹", index - 1), count, to("Next version", "›", index + 1)] : []),
      ...(edit === null ? [] : [act("Edit", "Edit", edit)]),
      ...(again === null ? [] : [act("Answer again", "Answer again", again)]),
    );
    this.acts.toggleAttribute("data-siblings", many);
    this.acts.hidden = this.acts.childElementCount === 0;
    if (focused) /** @type {HTMLElement | null} */ (this.acts.querySelector("button:enabled"))?.focus();
  }
}

/** @param {string} label @param {string} text @param {() => void} pressed */
function act(label, text, pressed) {
  const button = /** @type {HTMLButtonElement} */ (tag("button", [text]));
  button.type = "button";
  if (label !== text) button.setAttribute("aria-label", label);
  button.addEventListener("click", pressed);
  return button;
}

class ToolView {
  /** @param {ToolCall} call */
  constructor(call) {
    this.element = tag("details");
    this.element.className = "tool";
    this.element.dataset["toolCallId"] = call.id;
    this.summary = tag("summary");
    this.args = tag("pre");
    this.result = tag("div");
    this.result.className = "result";
    this.element.append(this.summary, tag("div", [caption("Asked with"), this.args, caption("Found"), this.result]));
  }

  /** @param {ToolCall} call @param {boolean} over */
  update(call, over) {
    const status = call.result !== null ? "done" : over ? "stopped" : "running";
    const args = parsed(call.args);
    this.element.dataset["status"] = status;
    this.element.dataset["tool"] = call.name;
    const words = typeof args === "object" && args !== null ? Object.values(args).filter((value) => typeof value === "string").join(" ") : "";
    const state = tag("span", [status === "done" ? found(call.result) : status === "running" ? "running" : "stopped"]);
    state.className = "state";
    const said = tag("span", [words]);
    said.className = "said";
    this.summary.replaceChildren(tag("b", [call.name || "tool"]), said, state);
    this.args.textContent = args === undefined ? call.args : JSON.stringify(args, null, 2);
    if (call.result === this.shownResult) return;
    this.shownResult = call.result;
    this.result.replaceChildren(...resultNodes(call.result));
  }

  /** @type {unknown} */
  shownResult = undefined;
}

export class SendingView {
  /** @param {Sending} message @param {string} me @param {(id: string) => void} again */
  constructor(message, me, again) {
    this.element = tag("article");
    this.element.className = "message mine sending";
    this.element.dataset["messageId"] = message.id;
    this.element.dataset["role"] = "user";
    const text = tag("div", [message.text]);
    text.className = "text";
    text.dataset["text"] = "";
    this.foot = tag("footer");
    this.again = tag("button", ["Try again"]);
    this.again.addEventListener("click", () => again(message.id));
    this.element.append(tag("header", [avatar(me), tag("b", [nameOf(me)])]), text, this.foot);
  }

  /** @param {Sending} message @param {boolean} live */
  update(message, live) {
    this.element.dataset["status"] = message.error === null ? "sending" : "refused";
    if (message.error === null) this.foot.replaceChildren(live ? "Sending…" : "Waiting for the connection…");
    else this.foot.replaceChildren(`Not sent: ${message.error.message} `, this.again);
  }
}

/** @param {string} participant */
function roleTag(participant) {
  const element = tag("span", [participant.slice(0, participant.indexOf(":"))]);
  element.className = "role";
  return element;
}

/** @param {Run} run */
export function failureNote(run) {
  const note = tag("p", [run.error ? `The agent failed: ${run.error}` : "The agent failed."]);
  note.className = "note";
  note.dataset["run"] = run.id;
  note.setAttribute("role", "alert");
  return note;
}

/** @param {string} text */
function caption(text) {
  const element = tag("span", [text]);
  element.className = "caption";
  return element;
}

/** @param {unknown} result @returns {Record<string, unknown>[] | null} */
function sources(result) {
  const value = typeof result === "string" ? parsed(result) : result;
  const items = Array.isArray(value) ? value : typeof value === "object" && value !== null ? Object.values(value).find(Array.isArray) : null;
  if (!Array.isArray(items) || !items.every((item) => typeof item === "object" && item !== null)) return null;
  return items;
}

/** @param {unknown} result */
function found(result) {
  const items = sources(result);
  return items === null ? "done" : items.length === 1 ? "1 source" : `${items.length} sources`;
}

/** @param {unknown} result @returns {Node[]} */
function resultNodes(result) {
  if (result === null) return [];
  const items = sources(result);
  if (items === null) {
    const value = typeof result === "string" ? (parsed(result) ?? result) : result;
    return [tag("pre", [typeof value === "string" ? value : JSON.stringify(value, null, 2)])];
  }
  const list = tag("ol", items.map((item) => {
    const pick = (/** @type {string[]} */ ...names) => names.map((name) => item[name]).find((value) => typeof value === "string" && value !== "");
    const href = pick("url", "link", "href", "source", "path");
    const title = String(pick("title", "heading", "name", "document") ?? href ?? JSON.stringify(item));
    const text = pick("preview", "excerpt", "text", "content");
    return tag("li", [link(String(href ?? title), [title]), ...(text === undefined ? [] : [tag("p", [String(text)])])]);
  }));
  list.className = "sources";
  return [list];
}

/** @param {unknown} parts */
function partsText(parts) {
  if (!Array.isArray(parts)) return "";
  return parts.map((part) => (typeof part?.text === "string" ? part.text : "")).join("");
}

/** @param {string} text @returns {unknown} */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {number} ts */
const clock = (ts) => new Date(ts).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
