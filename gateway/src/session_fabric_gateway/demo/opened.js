// @ts-check
// One session as the pages have it open: what was said, what is asked, who is there, who has the floor.
import { agents, arrange, branches, floor, outcomeOf, presence, requests } from "./session-fabric-life.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("@session-fabric/client").Client} Client */
/** @typedef {import("@session-fabric/client").Conversation} Conversation */
/** @typedef {import("@session-fabric/client").Session} Session */
/** @typedef {import("@session-fabric/client/life").Floor} Floor */
/** @typedef {import("@session-fabric/client/life").OpenRequests} OpenRequests */
/** @typedef {import("@session-fabric/client/life").Presence} Presence */

export class Opened {
  /**
   * @param {Client} client @param {string} name
   * @param {Record<string, unknown> | null} shown what the others see of us; null: nothing
   * @param {() => void} changed
   */
  constructor(client, name, shown, changed) {
    this.name = name;
    this.session = client.session(name);
    this.timeline = new Timeline();
    const session = /** @type {any} */ (this.session);
    /** @type {Presence} */
    this.presence = /** @type {any} */ (presence(session));
    /** @type {OpenRequests} */
    this.requests = /** @type {any} */ (requests(session));
    this.agents = /** @type {any} */ (agents(session));
    /** @type {Floor} */
    this.floor = /** @type {any} */ (floor(session));
    this.branches = branches(session);
    this.chat = this.session.conversation({ arrange: /** @type {any} */ (arrange), ...(shown === null ? {} : { presence: shown }) });
    this.chat.on("event", (event) => this.timeline.add(event));
    this.chat.on("change", changed);
    for (const one of [this.presence, this.requests, this.agents, this.floor]) one.on("change", changed);
  }

  /** What is shown of what was said, and whether what a run did is: of alternatives one is. */
  get shown() {
    const { chat } = this;
    const path = new Set(chat.path.map(({ id }) => id));
    const runs = new Set(chat.path.map(({ run }) => run));
    const said = new Set(chat.messages.map(({ run }) => run));
    const has = (/** @type {string | null} */ run) => {
      const asked = chat.runs.get(run ?? "")?.message ?? null;
      return said.has(run) ? runs.has(run) : asked === null || path.has(asked);
    };
    return { messages: chat.path, has };
  }

  /** The newest run that is under way. */
  get run() {
    return this.chat.activeRuns.at(-1);
  }

  /** A person who answers in the agents' place. */
  get person() {
    const holder = this.floor.current?.participant;
    return holder !== undefined && !holder.startsWith("agent:") && !holder.startsWith("pool:") ? holder : null;
  }

  /** Add something to what is being written. @param {string} run @param {string} text */
  async steer(run, text) {
    const asked = await this.session.control("steer", run, { body: { text }, deadlineMs: 10_000 });
    return outcomeOf(/** @type {any} */ (this.session), asked);
  }

  /** Have something else done instead. @param {string} run @param {string} id @param {string} text */
  async redirect(run, id, text) {
    const message = { id, role: "user", content: text };
    await this.session.control("redirect", run, { body: { message }, deadlineMs: 10_000 });
  }

  close() {
    for (const one of [this.presence, this.requests, this.agents, this.floor, this.chat]) one.close();
  }
}
