// @ts-check
// What happened in a session beside its messages, in a line each.
import { nameOf } from "./message.js";
import { tag } from "./markdown.js";

/** @typedef {import("./timeline.js").Note} Note */
/** @typedef {import("./timeline.js").Steer} Steer */

/** @type {Record<string, (who: string) => string>} */
const WORDS = {
  "control.overdue": () => "The agent did not stop in time: its answer was ended without it",
  "message.rejected": (who) => `${who} is busy and did not take this`,
  "message.expired": () => "Nobody answered this in time",
  "message.steered": (who) => `${who} takes this up in the answer above`,
  "handoff.offered": (who) => `${who} asks for somebody else to go on`,
  "handoff.accepted": (who) => `${who} has taken over`,
  "handoff.taken": (who) => `${who} has taken over`,
  "handoff.declined": (who) => `${who} cannot take over`,
  "handoff.expired": () => "Nobody took over in time",
  "handoff.returned": (who) => `${who} has given back to the agents`,
  whisper: (who) => `${who} whispers to the agent`,
};

/** @param {Note} note */
export function noteView(note) {
  const words = (WORDS[note.what] ?? (() => note.what))(nameOf(note.actor));
  const element = tag("p", note.text === "" ? [words] : [`${words}: `, tag("q", [note.text])]);
  element.className = "happened";
  element.dataset["what"] = note.what;
  return { element };
}

/** What somebody added while an answer was being written. */
export class SteerView {
  /** @param {Steer} steer @param {(() => void) | null} sayInstead */
  constructor(steer, sayInstead) {
    this.element = tag("p", [tag("b", [nameOf(steer.actor)]), ", meanwhile: ", tag("q", [steer.text]), " "]);
    this.element.className = "happened";
    this.element.dataset["what"] = "steer";
    this.state = tag("span");
    this.state.className = "state";
    this.again = null;
    if (sayInstead !== null) {
      this.again = /** @type {HTMLButtonElement} */ (tag("button", ["Send it as a message"]));
      this.again.addEventListener("click", () => (sayInstead(), this.again?.remove()));
    }
    this.element.append(this.state);
  }

  /** @param {Steer} steer */
  update({ outcome }) {
    const word = outcome === null ? "on its way" : outcome.type === "control.accepted" ? "taken up" : "not taken up";
    if (word === this.state.textContent) return;
    this.state.textContent = word;
    this.state.title = outcome?.reason ?? "";
    this.element.dataset["state"] = word.replaceAll(" ", "-");
    if (word === "not taken up" && this.again !== null) this.element.append(" ", this.again);
  }
}
