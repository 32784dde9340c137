// @ts-check
// The list of chats.
import { tag } from "./markdown.js";

/** @typedef {import("@session-fabric/client").Client} Client */
/** @typedef {import("@session-fabric/client").SessionRecord} SessionRecord */

const REFRESH_MS = 15_000;

export class SessionList {
  /** Called when the list is another one. @type {() => void} */
  changed = () => undefined;

  /** @param {Client} client @param {HTMLElement} element @param {number} everyMs */
  constructor(client, element, everyMs = REFRESH_MS) {
    this.client = client;
    this.element = element;
    this.selected = "";
    /** @type {SessionRecord[]} */
    this.records = [];
    document.addEventListener("visibilitychange", () => void this.refresh());
    setInterval(() => void this.refresh(), everyMs);
  }

  /** @param {string} name */
  title(name) {
    return this.records.find(({ session }) => session === name)?.labels?.["title"] || name;
  }

  /** @param {string} name */
  select(name) {
    this.selected = name;
    this.render();
    if (!this.records.some(({ session }) => session === name)) void this.refresh();
  }

  async refresh() {
    if (document.visibilityState !== "visible" || this.client.status.phase !== "live") return;
    try {
      this.records = (await this.client.sessions({ limit: 100 })).sessions;
    } catch {
      return; // the connection's own state is shown; the list stays as it was
    }
    this.render();
    this.changed();
  }

  render() {
    const shown = this.records.filter(({ state }) => state !== "deleted");
    this.element.replaceChildren(
      ...shown.map(({ session, created }) => {
        const link = /** @type {HTMLAnchorElement} */ (tag("a", [tag("span", [this.title(session)])]));
        link.href = `#${encodeURIComponent(session)}`;
        link.dataset["session"] = session;
        if (created !== undefined) link.append(tag("small", [ago(created)]));
        if (session === this.selected) link.setAttribute("aria-current", "page");
        return tag("li", [link]);
      }),
    );
  }
}

/** @param {number} ts */
function ago(ts) {
  const minutes = Math.max(0, Math.round((Date.now() - ts) / 60_000));
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 60 * 24) return `${Math.round(minutes / 60)} h`;
  return new Date(ts).toLocaleDateString([], { day: "numeric", month: "short" });
}
