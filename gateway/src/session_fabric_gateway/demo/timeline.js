// @ts-check
// What a session tells beside its messages, as entries of the log: questions, steers, hand-overs, whispers. No I/O, no DOM.

/** @typedef {import("@session-fabric/client").FabricEvent} FabricEvent */
/** @typedef {import("@session-fabric/client/life").OpenRequest} OpenRequest */
/** @typedef {{type: string, by: string, device: string | null, body: unknown, defaulted: boolean, reason: string}} Outcome */
/** @typedef {{kind: "ask", key: string, at: string, run: string | null, actor: string, request: OpenRequest, outcome: Outcome | null}} Ask */
/** @typedef {{kind: "steer", key: string, at: string, run: string | null, actor: string, text: string, outcome: Outcome | null}} Steer */
/** @typedef {{kind: "note", key: string, at: string, run: string | null, actor: string, what: string, text: string}} Note */
/** @typedef {Ask | Steer | Note} Entry */

export class Timeline {
  constructor() {
    /** @type {Map<string, Entry>} */
    this.entries = new Map();
    /** What became of requests, by their ids. @type {Map<string, Outcome>} */
    this.outcomes = new Map();
  }

  /** In the order of the log; what a rewind brings again changes nothing. @returns {Entry[]} */
  get all() {
    return [...this.entries.values()];
  }

  /** Questions that nobody has answered. @returns {Ask[]} */
  get open() {
    return /** @type {Ask[]} */ (this.all.filter((entry) => entry.kind === "ask" && entry.outcome === null));
  }

  /** @param {FabricEvent} event */
  add(event) {
    const { type, body, actor, offset: at, run: own } = event;
    const run = own ?? (typeof body["run"] === "string" ? body["run"] : null);
    const request = String(body["request"] ?? event.id);
    const text = typeof body["text"] === "string" ? body["text"] : "";
    const note = typeof body["note"] === "string" ? body["note"] : "";
    const by = String(body["by"] ?? actor);
    /** @param {string} what @param {string} said @param {string} who */
    const put = (what, said = "", who = actor) => this.put({ kind: "note", key: `${what} ${at}`, at, run, actor: who, what, text: said });
    switch (type) {
      case "input.requested":
        return this.put({ kind: "ask", key: `ask ${request}`, at, run, actor, request: asked(request, event), outcome: this.outcomes.get(request) ?? null });
      case "control.requested":
        if (body["action"] !== "steer") return;
        return this.put({ kind: "steer", key: `steer ${event.id}`, at, run, actor, text: steerText(body["body"]), outcome: this.outcomes.get(String(event.id)) ?? null });
      case "input.answered":
      case "input.expired":
      case "control.accepted":
      case "control.rejected":
      case "control.expired":
        return this.settle(request, { type, by, device: typeof body["device"] === "string" ? body["device"] : null, body: body["body"], defaulted: body["defaulted"] === true, reason: String(body["reason"] ?? "") });
      case "control.overdue":
      case "message.rejected":
      case "message.expired":
      case "handoff.expired":
        return put(type);
      case "message.steered":
        return put(type, "", actor);
      case "handoff.offered":
        return put(type, note);
      case "handoff.accepted":
      case "handoff.declined":
      case "handoff.taken":
      case "handoff.returned":
        return put(type, note, by);
      case "whisper":
        return put(type, text);
    }
  }

  /** @param {Entry} entry */
  put(entry) {
    if (!this.entries.has(entry.key)) this.entries.set(entry.key, entry);
  }

  /** @param {string} request @param {Outcome} outcome */
  settle(request, outcome) {
    if (this.outcomes.has(request)) return;
    this.outcomes.set(request, outcome);
    for (const key of [`ask ${request}`, `steer ${request}`]) {
      const entry = this.entries.get(key);
      if (entry !== undefined && entry.kind !== "note") this.entries.set(key, { ...entry, outcome });
    }
  }
}

/** @param {string} request @param {FabricEvent} event @returns {OpenRequest} */
function asked(request, { body, offset, ts }) {
  const { deadline_ms } = body;
  const deadline = typeof deadline_ms === "number" && ts !== undefined ? ts + deadline_ms : null;
  return /** @type {any} */ ({ to: null, ...body, request, offset, asked: ts ?? null, deadline, claimed: null });
}

/** @param {unknown} body */
function steerText(body) {
  const text = /** @type {{text?: unknown} | null} */ (typeof body === "object" ? body : null)?.text;
  return typeof text === "string" ? text : "";
}
