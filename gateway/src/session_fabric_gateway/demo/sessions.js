// @ts-check
// The list of chats.
import { tag } from "./markdown.js";

/** @typedef {import("@session-fabric/client").Client} Client */
/** @typedef {import("@session-fabric/client").SessionRecord} SessionRecord */

const MOST_COUNTED = 10;
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

  /** How many messages of others one has not read; nobody counts by default. @type {((name: string) => Promise<number>) | null} */
  unread = null;

  /** What is shown, to be made anew only where it is something else. */
  shown = "";

  /** @type {Map<string, number>} */
  counts = new Map();

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
    await this.count();
  }

  /** Of the newest sessions, but for the one that is being read. */
  async count() {
    const { unread } = this;
    if (unread === null) return;
    const names = this.records.slice(0, MOST_COUNTED).map(({ session }) => session).filter((name) => name !== this.selected);
    const found = await Promise.allSettled(names.map(async (name) => /** @type {const} */ ([name, await unread(name)])));
    this.counts = new Map(found.flatMap((one) => (one.status === "fulfilled" ? [one.value] : [])));
    this.render();
  }

  render() {
    const shown = this.records.filter(({ state }) => state !== "deleted");
    const lines = shown.map(({ session, created }) => [session, this.title(session), this.counts.get(session), created && ago(created)]);
    const key = JSON.stringify([this.selected, lines]);
    if (key === this.shown) return;
    this.shown = key;
    const focused = this.element.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset["session"] : undefined;
    this.element.replaceChildren(
      ...shown.map(({ session, created }) => {
        const link = /** @type {HTMLAnchorElement} */ (tag("a", [tag("span", [this.title(session)])]));
        link.href = `#${encodeURIComponent(session)}`;
        link.dataset["session"] = session;
        const count = session === this.selected ? 0 : (this.counts.get(session) ?? 0);
        if (count > 0) link.append(badge(count));
        if (created !== undefined) link.append(tag("small", [ago(created)]));
        if (session === this.selected) link.setAttribute("aria-current", "page");
        return tag("li", [link]);
      }),
    );
    if (focused !== undefined) /** @type {HTMLElement | null} */ (this.element.querySelector(`[data-session="${CSS.escape(focused)}"]`))?.focus();
  }
}

/** @param {number} count */
function badge(count) {
  const element = tag("em", [count > 99 ? "99+" : String(count)]);
  element.setAttribute("aria-label", `${count} unread`);
  return element;
}

/** @param {number} ts */
function ago(ts) {
  const minutes = Math.max(0, Math.round((Date.now() - ts) / 60_000));
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 60 * 24) return `${Math.round(minutes / 60)} h`;
  return new Date(ts).toLocaleDateString([], { day: "numeric", month: "short" });
}
