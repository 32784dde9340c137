// @ts-check
// What an agent asks of people: a card with what is asked, a way to answer, and who did.
import { nameOf } from "./message.js";
import { tag } from "./markdown.js";
import { formFields } from "./fields.js";

/** @typedef {import("@session-fabric/client/life").OpenRequest} OpenRequest */
/** @typedef {import("./timeline.js").Ask} Ask */
/** @typedef {import("./timeline.js").Outcome} Outcome */
/** @typedef {{answer(request: string, body: unknown): Promise<unknown>, mine(request: OpenRequest): boolean, me: string | null, device: string}} Answering */

/** From here on a deadline is near. */
const SOON_MS = 15_000;
let made = 0;

export class AskView {
  /** @param {Ask} ask @param {Answering} answering */
  constructor(ask, answering) {
    this.answering = answering;
    this.ask = ask;
    /** @type {"ready" | "sending" | "sent"} */
    this.phase = "ready";
    this.trouble = "";
    const { request } = ask;
    this.element = tag("section");
    this.element.className = "ask";
    this.element.dataset["request"] = request.request;
    this.element.dataset["kind"] = request.kind;
    this.element.setAttribute("role", "group");
    this.element.tabIndex = -1;
    const title = tag("h3", [request.title ?? "A question"]);
    title.id = `ask-${(made += 1)}`;
    this.element.setAttribute("aria-labelledby", title.id);
    const who = tag("p", [`${nameOf(ask.actor)} asks${toWhom(request.to)}`]);
    who.className = "caption";
    this.form = /** @type {HTMLFormElement} */ (tag("form"));
    this.form.autocomplete = "off";
    this.fill();
    this.clock = tag("span");
    this.clock.className = "countdown";
    this.foot = tag("p");
    this.foot.className = "outcome";
    this.foot.setAttribute("role", "status");
    this.element.append(who, title, ...(request.text ? [tag("p", [request.text])] : []), this.form, this.clock, this.foot);
    this.form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** @param {Ask} ask */
  update(ask) {
    this.ask = ask;
    this.show();
  }

  /** Time has passed. */
  tick() {
    const { deadline } = this.ask.request;
    this.clock.hidden = deadline === null || this.ask.outcome !== null;
    if (deadline === null || this.clock.hidden) return;
    const left = deadline - Date.now();
    const otherwise = this.ask.request.default === undefined ? "" : `, then: ${said(this.ask.request, this.ask.request.default)}`;
    this.clock.textContent = `${spell(left)} left${otherwise}`;
    this.clock.dataset["soon"] = String(left < SOON_MS);
  }

  show() {
    const { outcome, request } = this.ask;
    const mine = this.answering.mine(request);
    const over = outcome !== null;
    if (over && this.element.contains(document.activeElement)) this.element.focus();
    this.element.dataset["state"] = over ? (outcome.type === "input.answered" ? "answered" : "expired") : mine ? this.phase : "theirs";
    this.form.hidden = over;
    for (const control of this.form.elements) /** @type {HTMLButtonElement} */ (control).disabled = over || !mine || this.phase !== "ready";
    const text = over ? outcomeText(request, outcome, this.answering) : !mine ? "You cannot answer this." : this.phase === "ready" ? this.trouble : "Sending…";
    if (this.foot.textContent !== text) this.foot.textContent = text;
    this.foot.hidden = text === "";
    this.tick();
  }

  /** @param {unknown} body */
  async answer(body) {
    this.phase = "sending";
    this.trouble = "";
    this.show();
    try {
      await this.answering.answer(this.ask.request.request, body);
      this.phase = "sent";
    } catch (error) {
      const { code, message } = /** @type {import("@session-fabric/client").FabricError} */ (error);
      // Somebody was first: who, comes with the log.
      this.phase = code === "already_answered" || code === "request_closed" ? "sent" : "ready";
      this.trouble = message;
    }
    this.show();
  }

  fill() {
    const { request } = this.ask;
    const submits = (/** @type {() => unknown} */ body) => this.form.addEventListener("submit", () => void this.answer(body()));
    if (request.kind === "approval") {
      const comment = /** @type {HTMLInputElement} */ (tag("input"));
      comment.placeholder = "Comment (optional)";
      comment.setAttribute("aria-label", "Comment");
      const say = (/** @type {boolean} */ approved) => {
        const text = comment.value.trim();
        void this.answer(text === "" ? { approved } : { approved, comment: text });
      };
      const approve = button("Approve", "primary", () => say(true));
      const decline = button("Decline", "", () => say(false));
      // Enter in the comment must not decide anything.
      this.form.append(comment, approve, decline);
    } else if (request.kind === "choice") {
      const choices = (request.options ?? []).map((option) => {
        const { id, label } = /** @type {{id?: string, label?: string}} */ (typeof option === "object" && option !== null ? option : { id: option, label: option });
        return button(String(label ?? id), "", () => void this.answer(id));
      });
      this.form.append(...choices);
    } else {
      const { element, value } = formFields(request.kind === "form" ? request.schema : null, request.title ?? "Answer");
      this.form.append(element, submit("Answer"));
      submits(value);
    }
  }
}

/** @param {string} label @param {string} kind @param {() => void} pressed */
function button(label, kind, pressed) {
  const element = /** @type {HTMLButtonElement} */ (tag("button", [label]));
  element.type = "button";
  element.className = kind;
  element.addEventListener("click", pressed);
  return element;
}

/** @param {string} label */
function submit(label) {
  const element = /** @type {HTMLButtonElement} */ (tag("button", [label]));
  element.className = "primary";
  return element;
}

/** @param {OpenRequest["to"]} to */
function toWhom(to) {
  if (to === null) return "";
  if (typeof to !== "string") return ` ${nameOf(to.participant)} on one device`;
  return to.startsWith("role:") ? ` any ${nameOf(to)}` : ` ${nameOf(to)}`;
}

/** @param {OpenRequest} request @param {Outcome} outcome @param {Answering} answering */
function outcomeText(request, outcome, { me, device }) {
  if (outcome.type === "input.expired") return outcome.reason === "deadline" ? "Nobody answered in time" : "Not needed any more";
  const what = said(request, outcome.body);
  if (outcome.defaulted) return `${what}, since nobody answered in time`;
  const who = outcome.by !== me ? nameOf(outcome.by) : outcome.device === null || outcome.device === device ? "you" : "you, on another device";
  return `${what} by ${who}${commentOf(outcome.body)}`;
}

/** @param {OpenRequest} request @param {unknown} body */
function said(request, body) {
  if (request.kind === "approval") return /** @type {{approved?: boolean} | null} */ (body)?.approved === true ? "Approved" : "Declined";
  if (request.kind === "choice") {
    const chosen = (request.options ?? []).find((option) => /** @type {{id?: string} | null} */ (option)?.id === body);
    return `“${/** @type {{label?: string} | undefined} */ (chosen)?.label ?? body}” chosen`;
  }
  return `“${(typeof body === "string" ? body : JSON.stringify(body)).slice(0, 300)}” answered`;
}

/** @param {unknown} body */
function commentOf(body) {
  const comment = /** @type {{comment?: unknown} | null} */ (typeof body === "object" ? body : null)?.comment;
  return typeof comment === "string" && comment !== "" ? `: “${comment}”` : "";
}

/** @param {number} ms */
function spell(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds >= 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
