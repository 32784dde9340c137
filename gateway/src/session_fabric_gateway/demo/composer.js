// @ts-check
// Where one writes: the text, what is to become of it, and the button that stops the agent.
import { $ } from "./connection.js";
import { tag } from "./markdown.js";

/** @typedef {{id: string, label: string, placeholder: string}} Mode */
/** @typedef {{send(text: string, mode: string): void, stop(): void, typed(): void, cancelEdit(): void}} Writing */

export class Composer {
  /** @param {Writing} writing */
  constructor(writing) {
    this.writing = writing;
    this.input = /** @type {HTMLTextAreaElement} */ ($("text"));
    /** @type {readonly Mode[]} */
    this.modes = [];
    this.shown = "";
    $("composer").addEventListener("submit", (event) => (event.preventDefault(), this.submit()));
    $("stop").addEventListener("click", writing.stop);
    $("cancel-edit").addEventListener("click", () => writing.cancelEdit());
    this.input.addEventListener("input", () => (this.fit(), this.trouble(""), this.input.value !== "" && writing.typed()));
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !$("editing").hidden) return writing.cancelEdit();
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    $("modes").addEventListener("change", () => (this.applyMode(), this.input.focus()));
  }

  /** What may become of the text now; the first is the usual one, and what was chosen stays while it can. @param {readonly Mode[]} modes */
  offer(modes) {
    const key = JSON.stringify(modes);
    if (key === this.shown) return;
    this.shown = key;
    const before = this.mode;
    this.modes = modes;
    const chosen = modes.some(({ id }) => id === before) ? before : modes[0]?.id;
    $("modes").replaceChildren(...modes.map(({ id, label }) => {
      const radio = /** @type {HTMLInputElement} */ (tag("input"));
      radio.type = "radio";
      radio.name = "mode";
      radio.value = id;
      radio.checked = id === chosen;
      return tag("label", [radio, tag("span", [label])]);
    }));
    $("modes").hidden = modes.length < 2;
    this.applyMode();
  }

  /** @param {string} id */
  choose(id) {
    for (const radio of $("modes").querySelectorAll("input")) radio.checked = radio.value === id;
    this.applyMode();
  }

  get mode() {
    return $("modes").querySelector("input:checked")?.getAttribute("value") ?? "";
  }

  /** @param {{text: string} | null} edited */
  edit(edited) {
    $("editing").hidden = edited === null;
    this.input.value = edited?.text ?? "";
    this.fit();
    if (edited !== null) this.input.focus();
  }

  /** @param {string} text why something could not be done */
  trouble(text) {
    $("trouble").textContent = text;
    $("trouble").hidden = text === "";
  }

  applyMode() {
    this.input.placeholder = this.modes.find(({ id }) => id === this.mode)?.placeholder ?? "";
  }

  submit() {
    const text = this.input.value.trim();
    if (text === "") return;
    const { mode } = this;
    this.input.value = "";
    this.fit();
    this.trouble("");
    this.writing.send(text, mode);
  }

  fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, 200)}px`;
    /** @type {HTMLButtonElement} */ ($("send")).disabled = this.input.value.trim() === "";
  }
}
