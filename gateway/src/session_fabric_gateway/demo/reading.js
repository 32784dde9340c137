// @ts-check
// How far the others have read, and how far we have: what is at the end of a page that is looked at has been read.
import { state } from "./session-fabric-life.js";
import { nameOf } from "./message.js";

/** @typedef {import("@session-fabric/client").Session} Session */
/** @typedef {import("./opened.js").Opened} Opened */
/** @typedef {Record<string, {offset: string, unread: number}>} Readers */

const EVERY_MS = 1_000;

export class Reading {
  /** @param {Opened} opened @param {() => void} changed */
  constructor(opened, changed) {
    this.opened = opened;
    /** @type {Readers} */
    this.readers = {};
    this.told = "";
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.stop = state(/** @type {any} */ (opened.session)).watch("_seen", (/** @type {{body: unknown}} */ { body }) => {
      this.readers = readersIn(body);
      changed();
    }, () => undefined);
  }

  /** Say that everything up to the newest message has been read. */
  seen() {
    if (this.timer !== undefined || document.visibilityState !== "visible" || this.opened.chat.stage !== "live") return;
    if (newest(this.opened) <= this.told) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.told = newest(this.opened);
      this.opened.session.cursor(this.told).catch(() => undefined); // said again with the next message
    }, EVERY_MS);
  }

  /** Who has read what we said last. @param {string} me */
  by(me) {
    const { path } = this.opened.chat;
    const ours = path.filter(({ actor, role }) => actor === me && role === "user").at(-1);
    if (ours === undefined) return "";
    const names = Object.entries(this.readers).filter(([who, { offset }]) => who !== me && offset >= ours.first).map(([who]) => nameOf(who));
    return names.length === 0 ? "" : `Seen by ${names.slice(0, 3).join(", ")}${names.length > 3 ? ` and ${names.length - 3} more` : ""}`;
  }

  close() {
    clearTimeout(this.timer);
    this.stop();
  }
}

/** How many messages of others somebody has not read. @param {Session} session @param {string} me @returns {Promise<number>} */
export async function unreadIn(session, me) {
  const { body } = await state(/** @type {any} */ (session)).get("_seen");
  return readersIn(body)[me]?.unread ?? 0;
}

/** @param {Opened} opened */
const newest = ({ chat }) => chat.path.reduce((offset, { last }) => (last > offset ? last : offset), "");

/** @param {unknown} body @returns {Readers} */
const readersIn = (body) => /** @type {{participants?: Readers} | null} */ (body)?.participants ?? {};
