// @ts-nocheck
// @session-fabric/client, built from clients/typescript by `npm run build`. Do not edit.

// src/life/changing.ts
import { Emitter } from "./session-fabric.js";
var Changing = class {
  constructor() {
    this.offs = [];
    this.emitter = new Emitter();
  }
  /** Call `listener` after each change; the returned function takes it away again. */
  on(name, listener) {
    return this.emitter.on(name, listener);
  }
  /** Listen no more. */
  close() {
    for (const off of this.offs.splice(0)) off();
  }
  changed() {
    this.emitter.emit("change", void 0);
  }
};

// src/life/agents.ts
var LIFE = /^(RUN_|run\.)/;
function agents(session) {
  return new Agents(session);
}
var Agents = class extends Changing {
  constructor(session) {
    super();
    this.gone = /* @__PURE__ */ new Map();
    this.offs.push(
      session.on("agent", (told) => {
        if (told.connected) this.gone.delete(told.run);
        else this.gone.set(told.run, told);
        this.changed();
      }),
      session.on("events", (events) => {
        const settled = events.filter(({ type, run }) => run !== null && LIFE.test(type) && this.gone.delete(run));
        if (settled.length > 0) this.changed();
      }),
      session.on("live", () => {
        this.gone.clear();
        this.changed();
      })
    );
  }
  /** Runs of which it is not known yet whether their agent comes back. */
  get away() {
    return [...this.gone.values()];
  }
};

// src/fold/branches.ts
var arrange = (messages, selected, answered) => {
  const parents = /* @__PURE__ */ new Map();
  const places = /* @__PURE__ */ new Map();
  const placeOf = /* @__PURE__ */ new Map();
  const chosen = /* @__PURE__ */ new Map();
  const newestOfRun = /* @__PURE__ */ new Map();
  const shown = /* @__PURE__ */ new Set();
  let tip = null;
  let stale = true;
  const show = (id) => {
    if (shown.has(parents.get(id) ?? null) && chosen.get(placeOf.get(id)) === id) shown.add(tip = id);
  };
  const refresh = () => {
    if (!stale) return;
    stale = false;
    shown.clear();
    shown.add(tip = null);
    for (const id of parents.keys()) show(id);
  };
  const add = ({ id, run, said, named }) => {
    let kind = said ? "said" : `of ${id}`;
    let parent = said ? named : newestOfRun.get(run);
    if (parent === void 0 || parent !== null && !parents.has(parent)) {
      refresh();
      parent = tip;
      const asked = !said && run ? answered(run) : null;
      if (asked && parents.has(asked)) {
        kind = "answers";
        parent = asked;
      }
    }
    const key2 = JSON.stringify([kind, parent]);
    const place = places.get(key2) ?? [];
    places.set(key2, place);
    place.push(id);
    parents.set(id, parent);
    placeOf.set(id, place);
    chosen.set(place, id);
    if (!said && run) newestOfRun.set(run, id);
    if (place.length > 1) stale = true;
    else if (!stale) show(id);
  };
  const select = (id) => {
    for (let at = id; at; at = parents.get(at)) chosen.set(placeOf.get(at), at);
    stale = true;
  };
  const items = [...selected];
  for (const message of messages) items.push([message.first, message.id, message]);
  items.sort((a, b) => a[0] < b[0] || a[0] === b[0] && a[1] < b[1] ? -1 : 1);
  for (const [, id, message] of items) {
    if (message) add(message);
    else if (parents.has(id)) select(id);
  }
  refresh();
  return {
    parents,
    path: shown,
    siblings(id) {
      const ids = placeOf.get(id) ?? [];
      return { ids, index: ids.indexOf(id) };
    }
  };
};

// src/life/asked.ts
var CLAIM_MS = 3e4;
var KINDS = /* @__PURE__ */ new Set(["approval", "choice", "text", "form"]);
var RUN_OVER = /^(RUN_FINISHED|RUN_ERROR|message\.(steered|rejected|expired))$/;
var RequestFold = class {
  constructor() {
    this.asked = /* @__PURE__ */ new Map();
    this.claims = /* @__PURE__ */ new Map();
    this.outcomes = /* @__PURE__ */ new Map();
    /** Runs that are over. */
    this.over = /* @__PURE__ */ new Set();
    /** What is known to be over though no event has said so. */
    this.ended = /* @__PURE__ */ new Set();
    /** What was asked for what has been redacted since. */
    this.redacted = /* @__PURE__ */ new Set();
  }
  /** Fold one event; true when it changed what is open. */
  add(event) {
    const { type, body, offset, run } = event;
    if (RUN_OVER.test(type)) {
      const open = this.sorted(run ?? "").some((one) => this.isOpen(one));
      this.over.add(run ?? "");
      return open;
    }
    if (/^(message|event)\.redacted$/.test(type)) {
      const open = this.open.length;
      for (const request2 of body["requests"] ?? []) this.redacted.add(request2);
      return open > this.open.length;
    }
    if (!/^(tool|input)\./.test(type)) return false;
    const request = String(body["request"] ?? event.id);
    switch (type) {
      case "tool.requested":
      case "input.requested": {
        const read = requestOf(request, event, body);
        if (read === null || this.asked.has(request)) return false;
        this.asked.set(request, read);
        return this.isOpen(read);
      }
      case "tool.claimed":
        if (offset <= (this.claims.get(request)?.at ?? "")) return false;
        this.claims.set(request, { at: offset, claim: claimOf(event) });
        return this.get(request) !== void 0;
      default: {
        const open = this.get(request) !== void 0;
        this.outcomes.set(request, event);
        return open;
      }
    }
  }
  /** Take from whoever knows what is open, but for `since`, of which events have told since they were asked. */
  set(listed, since) {
    const known = /* @__PURE__ */ new Set([...since, ...listed.map(({ request }) => request)]);
    for (const { request } of this.open) if (!known.has(request)) this.ended.add(request);
    for (const one of listed) {
      this.asked.set(one.request, one);
      if (!since.has(one.request)) this.claims.delete(one.request);
    }
  }
  /** Know of a claim from elsewhere. */
  claimed(request, claim) {
    this.claims.set(request, { at: this.claims.get(request)?.at ?? "", claim });
  }
  /** Know that a request is over; true when it was open. */
  end(request) {
    const open = this.get(request) !== void 0;
    this.ended.add(request);
    return open;
  }
  /** All requests, oldest first. */
  get all() {
    return this.of();
  }
  /** Those of a run, or all. */
  of(run) {
    return this.sorted(run).map((request) => {
      const outcome2 = this.outcomes.get(request.request);
      const body = outcome2?.body ?? {};
      const answered = outcome2?.type.endsWith(".answered") === true;
      const state2 = answered ? "answered" : this.isOpen(request) ? "open" : "expired";
      const defaulted = answered && body["defaulted"] === true;
      const by = !answered ? null : defaulted ? String(body["by"]) : outcome2.actor;
      const answer = answered ? body[request.kind === "tool" ? "result" : "body"] ?? null : null;
      const error = answered ? body["error"] ?? null : null;
      const reason = state2 === "expired" ? body["reason"] ?? "run_ended" : null;
      return { request: this.shown(request), state: state2, by, defaulted, answer, error, reason };
    });
  }
  /** Those that can be answered, oldest first. */
  get open() {
    return this.sorted().filter((one) => this.isOpen(one)).map((one) => this.shown(one));
  }
  /** A request that can be answered. */
  get(request) {
    const one = this.asked.get(request);
    return one !== void 0 && !this.redacted.has(request) && this.isOpen(one) ? this.shown(one) : void 0;
  }
  sorted(of) {
    const left = [...this.asked.values()].filter(({ request, run }) => (of === void 0 || run === of) && !this.redacted.has(request));
    return left.sort((a, b) => a.offset < b.offset ? -1 : 1);
  }
  isOpen({ request, run }) {
    return !this.outcomes.has(request) && !this.ended.has(request) && !this.over.has(run);
  }
  shown(one) {
    const claimed = this.isOpen(one) ? this.claims.get(one.request)?.claim ?? one.claimed : null;
    return claimed === one.claimed ? one : { ...one, claimed };
  }
};
function requestOf(request, event, body) {
  const { type, deadline_ms, ...fields } = body;
  const kind = type === "tool.requested" ? "tool" : body["kind"];
  if (typeof body["run"] !== "string" || kind !== "tool" && !KINDS.has(kind)) return null;
  const deadline = typeof deadline_ms === "number" && event.ts !== void 0 ? event.ts + deadline_ms : null;
  const more = { request, kind, offset: event.offset, asked: event.ts ?? null, deadline, claimed: null };
  return { to: null, ...fields, ...more };
}
function claimOf({ actor, ts, body: { device, until } }) {
  const most = ts === void 0 ? Infinity : ts + CLAIM_MS;
  return { by: actor, device: typeof device === "string" ? device : null, until: typeof until === "number" ? Math.min(until, most) : most };
}

// src/life/branches.ts
import { FabricError, newId } from "./session-fabric.js";
function branches(session) {
  return new Branches(session);
}
var Branches = class {
  constructor(session) {
    this.session = session;
  }
  /** Show this message and what follows it, to everybody. */
  select(message) {
    return this.session.append({ type: "branch.selected", message });
  }
  /** Have a message of a user answered again, beside the answer that is there. */
  regenerate(message, options = {}) {
    return this.session.append({ type: "message.regenerate", message, ...options });
  }
  /** Say something else in a message's place: what is new stands beside it, behind the same `parent` (null: the beginning). */
  async edit(message, content, options = {}) {
    const { id = newId("m"), pool } = options;
    if (message.parent === void 0) throw new FabricError("unsupported", "The message's parent is not known.", false, "Open the conversation with { arrange }.");
    const body = { type: "message.user", message: { id, role: "user", content }, parent: message.parent, ...pool ? { pool } : {} };
    return this.session.append(body, { id });
  }
};

// src/life/client-tools.ts
import { FabricError as FabricError3 } from "./session-fabric.js";

// src/life/requests.ts
import { FabricError as FabricError2, newId as newId2 } from "./session-fabric.js";
var CLAIM_MS2 = 3e4;
var LEAST_MS = 1e3;
var OVER = /* @__PURE__ */ new Set(["already_answered", "request_closed", "request_not_found"]);
function requests(session) {
  return new OpenRequests(session);
}
var OpenRequests = class extends Changing {
  constructor(session) {
    super();
    this.session = session;
    /** The gateway has said what is open. */
    this.ready = false;
    /** Why it would not say, if so. */
    this.error = null;
    this.fold = new RequestFold();
    /** Requests of which events have told since the gateway was asked: that may be newer than its answer. */
    this.meanwhile = /* @__PURE__ */ new Set();
    /** Of others' claims, by request: when we heard of the newest one, and from when on another try may be of use. */
    this.heard = /* @__PURE__ */ new Map();
    this.offs.push(
      session.on("events", (events) => this.take(events)),
      session.on("live", () => void this.ask())
    );
    if (session.live) void this.ask();
  }
  /** Oldest first. */
  get open() {
    return this.fold.open;
  }
  get(request) {
    return this.fold.get(request);
  }
  /** Whether it is addressed to us: to anybody, to our participant, role or device. Where the gateway has not said who we are: perhaps. */
  mine({ to }) {
    const { participant, device } = this.session.client;
    if (to === null) return true;
    if (typeof to !== "string") return to.device === device && (participant === null || to.participant === participant);
    if (participant === null) return true;
    return to.startsWith("role:") ? participant.startsWith(`${to.slice(5)}:`) : to === participant;
  }
  /**
   * How long somebody else's claim is to be waited for. By when we heard of it as much as by its `until`, since our clock
   * need not be the broker's: one that is behind is not waited for longer, one that is ahead does not ask all the time.
   */
  left({ request, claimed }) {
    if (claimed === null) return 0;
    const now = Date.now();
    const known = this.heard.get(request);
    const { at, next } = known?.until === claimed.until ? known : { at: now, next: now };
    this.heard.set(request, { until: claimed.until, at, next });
    return Math.max(0, next - now, Math.min(claimed.until - now, at + CLAIM_MS2 - now));
  }
  /** Say that this device works on a tool request, for 30 s; claim again to go on. Throws `already_claimed`, which names `by` and `until`. */
  async claim(request) {
    try {
      const fields = { request, device: this.session.client.device };
      const { until } = await this.session.ask("claim", fields, "POST /requests/{request}/claim");
      return until;
    } catch (error) {
      throw this.refused(request, error);
    }
  }
  /** Answer: `{approved, comment}`, an option, a text, a form, or a tool's result. Exactly one answer counts; `already_answered` names whose. */
  answer(request, body) {
    return this.give(request, { body: body === void 0 ? null : body });
  }
  /** Answer that a tool has failed. */
  fail(request, error) {
    return this.give(request, { error });
  }
  async give(request, given) {
    try {
      const fields = { ...given, request, event: newId2("a"), device: this.session.client.device };
      const { offset } = await this.session.ask("answer", fields, "POST /requests/{request}/answer");
      this.end(request);
      return offset;
    } catch (error) {
      throw this.refused(request, error);
    }
  }
  refused(request, error) {
    if (!(error instanceof FabricError2)) return error;
    if (OVER.has(error.code)) this.end(request);
    if (error.code === "already_claimed" && this.get(request) !== void 0) {
      const claim = error.facts;
      const now = Date.now();
      this.heard.set(request, { until: claim.until, at: now, next: now + LEAST_MS });
      this.fold.claimed(request, claim);
      this.changed();
    }
    return error;
  }
  end(request) {
    if (this.fold.end(request)) this.changed();
  }
  async ask() {
    const since = this.meanwhile = /* @__PURE__ */ new Set();
    try {
      const answer = await this.session.ask("requests", {}, "GET /requests");
      if (since !== this.meanwhile) return;
      this.fold.set(answer.requests, since);
      this.ready = true;
      this.error = null;
    } catch (error) {
      this.error = error;
    }
    this.changed();
  }
  take(events) {
    let news = false;
    for (const event of events) {
      const { request } = event.body;
      if (typeof request === "string") this.meanwhile.add(request);
      news = this.fold.add(event) || news;
    }
    if (news) this.changed();
  }
};

// src/life/client-tools.ts
var RENEW_MS = 1e4;
function clientTools(session, tools, options = {}) {
  return new ClientTools(session, tools, options);
}
var ClientTools = class extends Changing {
  constructor(session, tools, options) {
    super();
    this.session = session;
    this.tools = tools;
    this.stops = /* @__PURE__ */ new Map();
    /** Ended for us in a way that trying again does not change. */
    this.over = /* @__PURE__ */ new Set();
    const own = options.requests === void 0 ? new OpenRequests(session) : null;
    this.requests = options.requests ?? own;
    this.offs.push(
      () => own?.close(),
      this.requests.on("change", () => this.look()),
      session.on("ended", () => this.close())
    );
    this.look();
  }
  /** The requests that are being worked on here. */
  get running() {
    return [...this.stops.keys()];
  }
  /** Stop: what is being worked on is left to whoever claims it when our claim has lapsed. */
  close() {
    super.close();
    clearTimeout(this.timer);
    for (const stop of this.stops.values()) stop.abort();
    this.stops.clear();
  }
  look() {
    const { requests: requests2, stops } = this;
    for (const [id, stop] of stops) {
      if (requests2.get(id) !== void 0 || this.over.has(id)) continue;
      stops.delete(id);
      stop.abort();
      this.changed();
    }
    if (!requests2.ready) return;
    clearTimeout(this.timer);
    let next = Infinity;
    for (const one of requests2.open) {
      const { request, kind, tool = "", claimed } = one;
      if (kind !== "tool" || !Object.hasOwn(this.tools, tool) || !requests2.mine(one)) continue;
      if (stops.has(request) || this.over.has(request)) continue;
      const left = claimed !== null && this.ours(claimed) ? 0 : requests2.left(one);
      if (left === 0) void this.work(one);
      else next = Math.min(next, left);
    }
    if (next < Infinity) this.timer = setTimeout(() => this.look(), next);
  }
  ours(claimed) {
    const { participant, device } = this.session.client;
    return claimed.device === device && (participant === null || claimed.by === participant);
  }
  async work(one) {
    const { request } = one;
    const stop = new AbortController();
    this.stops.set(request, stop);
    this.changed();
    let renewing;
    try {
      await this.requests.claim(request);
      if (stop.signal.aborted) return;
      renewing = setInterval(() => void this.requests.claim(request).catch(() => void 0), RENEW_MS);
      stop.signal.addEventListener("abort", () => clearInterval(renewing));
      const tool = this.tools[one.tool];
      let answer;
      try {
        const result = await tool(one.args, one, stop.signal);
        answer = () => this.requests.answer(request, result);
      } catch (error) {
        answer = () => this.requests.fail(request, messageOf(error));
      }
      if (stop.signal.aborted) return;
      this.over.add(request);
      await answer().catch((error) => {
        if (error instanceof FabricError3 && /^(too_large|invalid_request)$/.test(error.code)) {
          return this.requests.fail(request, `The result was refused: ${error.message}`);
        }
        throw error;
      });
    } catch (error) {
      if (!(error instanceof FabricError3) || error.code !== "already_claimed") this.over.add(request);
    } finally {
      clearInterval(renewing);
      if (this.stops.get(request) === stop) this.stops.delete(request);
      if (this.offs.length > 0) queueMicrotask(() => this.look());
      this.changed();
    }
  }
};
var messageOf = (error) => error instanceof Error ? error.message || error.name : String(error);

// src/life/control.ts
import { FabricError as FabricError4, newId as newId3 } from "./session-fabric.js";
function outcomeOf(session, request, signal) {
  const id = typeof request === "string" ? request : request.request;
  return new Promise((resolve, reject) => {
    const offs = [];
    const end = (settle) => {
      for (const off of offs.splice(0)) off();
      settle();
    };
    const look = (events) => {
      const found = events.find(({ type, body }) => /^control\.(accepted|rejected|expired)$/.test(type) && body["request"] === id);
      if (found !== void 0) end(() => resolve(outcome(id, found)));
      return found !== void 0;
    };
    const aborted = () => end(() => reject(new FabricError4("aborted", "The caller's signal called this off.")));
    offs.push(
      session.on("events", look),
      session.on("ended", (error) => end(() => reject(error))),
      session.client.on("status", ({ phase, error }) => {
        if (phase === "closed") end(() => reject(error ?? new FabricError4("closed", "The client was closed.")));
      }),
      () => signal?.removeEventListener("abort", aborted)
    );
    signal?.addEventListener("abort", aborted);
    if (signal?.aborted) return aborted();
    if (typeof request !== "string") void earlier(session, request.offset, () => offs.length > 0, look).catch(() => void 0);
  });
}
function whisper(session, text, options = {}) {
  const { run, id = newId3("w") } = options;
  return session.ask("whisper", { text, run, event: id }, "POST /whispers");
}
async function earlier(session, from, wanted, look) {
  const path = `/v1/sessions/${encodeURIComponent(session.name)}/events`;
  for (let after = from; wanted(); ) {
    const { events, next } = await session.client.http.json("GET", path, { query: { after, limit: 1e3 } });
    if (look(events) || events.length === 0) return;
    after = next;
  }
}
function outcome(request, { type, offset, body }) {
  const word = type.slice("control.".length);
  const reason = body["reason"];
  return { outcome: word, request, action: String(body["action"]), run: String(body["run"]), reason: typeof reason === "string" ? reason : null, offset };
}

// src/life/controls.ts
var ControlFold = class {
  constructor() {
    this.asked = /* @__PURE__ */ new Map();
    this.outcomes = /* @__PURE__ */ new Map();
    this.overdue = /* @__PURE__ */ new Set();
  }
  /** Fold one event; true when it is about a control request. */
  add(event) {
    const request = String(event.body["request"] ?? event.id);
    switch (event.type) {
      case "control.requested":
        this.asked.set(event.id ?? request, event);
        return true;
      case "control.accepted":
      case "control.rejected":
      case "control.expired":
        this.outcomes.set(request, event);
        return true;
      case "control.overdue":
        this.overdue.add(request);
        return true;
      default:
        return false;
    }
  }
  /** All requests, oldest first. */
  get all() {
    const events = [...this.asked].sort(([, a], [, b]) => a.offset < b.offset ? -1 : 1);
    return events.map(([request, { body, actor }]) => {
      const outcome2 = this.outcomes.get(request);
      const reason = outcome2?.body["reason"];
      return {
        request,
        action: String(body["action"]),
        run: String(body["run"]),
        by: actor,
        state: outcome2?.type.slice("control.".length) ?? "requested",
        reason: typeof reason === "string" ? reason : null,
        overdue: this.overdue.has(request)
      };
    });
  }
};

// src/life/floor.ts
import { FabricError as FabricError5, newId as newId4 } from "./session-fabric.js";

// src/life/floors.ts
var FloorFold = class {
  constructor() {
    /** By pool, as `read` has them; `at` is the floor's newest event when it was offered. */
    this.offered = /* @__PURE__ */ new Map();
    this.newest = /* @__PURE__ */ new Map();
  }
  /** Fold one event; true when it is of a floor. */
  add(event) {
    const { type, body, offset } = event;
    const { pool } = body;
    if (!/^(floor|handoff)\./.test(type) || typeof pool !== "string") return false;
    const offers = this.offered.get(pool) ?? /* @__PURE__ */ new Map();
    this.offered.set(pool, offers);
    if (type === "handoff.offered") {
      const read = offerOf(event, pool);
      if (read !== null) offers.set(read.offer.request, read);
    } else if (offset > (this.newest.get(pool)?.offset ?? "")) {
      this.newest.set(pool, event);
    }
    return true;
  }
  /** The pools of whose floors anything is known, by name. */
  get pools() {
    return [...this.offered.keys()].sort();
  }
  state(pool) {
    const { participant, holder, generation } = this.newest.get(pool)?.body["floor"] ?? {};
    return { participant: textOr(participant), holder: textOr(holder), generation: typeof generation === "number" ? generation : 0 };
  }
  /** Offers that nobody has decided, oldest first. */
  offers(pool) {
    const newest = this.newest.get(pool)?.offset ?? "";
    const open = [...this.offered.get(pool)?.values() ?? []].filter(({ at }) => newest <= at);
    return open.map(({ offer }) => offer).sort((a, b) => a.offset < b.offset ? -1 : 1);
  }
};
function offerOf({ body, actor, offset, ts, id }, pool) {
  const { request, to, note, deadline_ms, floor: floor2 } = body;
  if (typeof floor2 !== "number") return null;
  const deadline = typeof deadline_ms === "number" && ts !== void 0 ? ts + deadline_ms : null;
  const offer = { request: String(request ?? id), pool, by: actor, to: to ?? null, note: textOr(note), deadline, offset };
  return { offer, at: offset.slice(0, offset.indexOf("_") + 1) + String(floor2).padStart(16, "0") };
}
var textOr = (value) => typeof value === "string" ? value : null;

// src/life/floor.ts
var holderOf = (floor2) => floor2 === null || floor2.participant === null ? null : floor2;
function floor(session, pool = "default") {
  return new Floor(session, pool);
}
var Floor = class extends Changing {
  constructor(session, pool) {
    super();
    this.session = session;
    this.pool = pool;
    /** Who holds it, as far as is known; null: nobody. */
    this.current = null;
    this.fold = new FloorFold();
    this.asked = 0;
    this.offs.push(
      session.on("events", (events) => this.heard(events)),
      session.on("live", () => this.look())
    );
    if (session.live) this.look();
  }
  /** Offers that nobody has decided, oldest first. */
  get offers() {
    return this.fold.offers(this.pool);
  }
  /** Ask the gateway who holds it. */
  async state() {
    const number = this.asked += 1;
    const { floor: floor2 } = await this.session.ask("floor", { pool: this.pool }, "GET /floor");
    const holder = holderOf(floor2);
    if (number === this.asked) this.hold(holder);
    return holder;
  }
  /** Offer it to a participant, a role or a pool; `request` of the answer is what is accepted or declined. */
  offer(to, options = {}) {
    const { note, deadlineMs } = options;
    const fields = { pool: this.pool, to, note, deadline_ms: deadlineMs, event: newId4("ho-") };
    return this.session.ask("handoff.offer", fields, "POST /handoffs");
  }
  accept(request, note) {
    return this.change("handoff.accept", { pool: this.pool, request, note }, "POST /handoffs/{request}/accept");
  }
  decline(request, note) {
    return this.change("handoff.decline", { pool: this.pool, request, note }, "POST /handoffs/{request}/decline");
  }
  /** Take it without being asked: from now on we answer. */
  take(note) {
    return this.change("floor.take", { pool: this.pool, note }, "POST /floor/take");
  }
  /** Give it back to the pool's agents. */
  giveBack(note) {
    return this.change("floor.return", { pool: this.pool, note }, "POST /floor/return");
  }
  /** Say something in the assistant's place. Said again with the same id it is one message. */
  say(text, id = newId4("m")) {
    const message = { id, role: "assistant", content: text };
    return this.session.ask("say", { message, pool: this.pool }, "POST /say");
  }
  async change(op, fields, via) {
    const { client, name } = this.session;
    let again = 0;
    try {
      const frame = { ...fields, op, session: name, via };
      const { floor: floor2 } = await client.ask((tries) => (again = tries, frame));
      this.look();
      return holderOf(floor2);
    } catch (error) {
      if (again === 0 || !(error instanceof FabricError5)) throw error;
      const { code, facts } = error;
      const ours = code === "already_answered" && facts["by"] === client.participant;
      if (!ours && !(op === "floor.return" && code === "not_holder")) throw error;
      return this.state();
    }
  }
  look() {
    this.state().catch((_error) => void 0);
  }
  hold(floor2) {
    this.current = floor2;
    this.changed();
  }
  heard(events) {
    let moved = false;
    for (const event of events) if (event.body["pool"] === this.pool) moved = this.fold.add(event) || moved;
    if (!moved) return;
    this.changed();
    if (this.session.live) this.look();
  }
};

// src/life/presence.ts
import "./session-fabric.js";

// src/life/present.ts
var Present = class {
  constructor() {
    this.stays = /* @__PURE__ */ new Map();
    /** What came while `who` was being answered, and may be newer than the answer. */
    this.meanwhile = null;
  }
  /** Each participant once, however many devices; the longest there first. */
  get participants() {
    const first = /* @__PURE__ */ new Map();
    for (const member of this.devices) if (!first.has(member.participant)) first.set(member.participant, member);
    return [...first.values()];
  }
  /** The longest there first. */
  get devices() {
    const there = [...this.stays.values()].flatMap((stay) => memberOf(stay) ?? []);
    return there.sort((a, b) => (a.since ?? 0) - (b.since ?? 0));
  }
  /** `who` is being asked now. */
  asking() {
    this.meanwhile = [];
  }
  /** Take the answer to `who`: the whole truth, but for what has come since it was asked. */
  set(members) {
    this.stays = new Map(members.map((told) => [key(told.participant, told.device), { left: "", first: null, last: null, told }]));
    const newer = this.meanwhile ?? [];
    this.meanwhile = null;
    for (const event of newer) this.add(event);
  }
  /** Fold one event; true when it changed anything. */
  add(event) {
    if (!/^presence\.(joined|updated|left)$/.test(event.type)) return false;
    this.meanwhile?.push(event);
    const { who, where } = whoOf(event);
    const stay = this.stays.get(key(who, where)) ?? { left: "", first: null, last: null, told: null };
    this.stays.set(key(who, where), stay);
    const { offset } = event;
    const { left, first, last, told } = stay;
    if (offset <= left) return false;
    if (event.type === "presence.left") {
      stay.left = offset;
      stay.told = null;
      if (last !== null && last.offset < offset) stay.last = null;
      if (first !== null && first.offset < offset) stay.first = stay.last;
      return last !== null || told !== null;
    }
    if (first === null || offset < first.offset) stay.first = event;
    if (last === null || offset > last.offset) stay.last = event;
    return first !== stay.first || last !== stay.last;
  }
};
function memberOf({ first, last, told }) {
  if (first === null || last === null) return told;
  const { who, where } = whoOf(last);
  const { data, status } = last.body;
  const since = told?.since ?? first.ts;
  const member = { participant: who, device: where, data: data ?? told?.data ?? null, status: status ?? null };
  return since === void 0 ? member : { ...member, since };
}
function whoOf({ actor, body: { participant, device } }) {
  return { who: typeof participant === "string" ? participant : actor, where: typeof device === "string" ? device : null };
}
var key = (participant, device) => `${participant}
${device ?? ""}`;

// src/life/presence.ts
var TYPING_MS = 4e3;
function presence(session) {
  return new Presence(session);
}
var Presence = class extends Changing {
  constructor(session) {
    super();
    this.session = session;
    this.present = new Present();
    this.typists = /* @__PURE__ */ new Map();
    this.toldTyping = 0;
    this.own = null;
    this.offs.push(
      session.on("events", (events) => {
        let news = false;
        for (const event of events) {
          if (event.type.startsWith("presence.")) news = this.present.add(event) || news;
          if (event.type === "message.user" || event.type === "message.completed") news = this.said(event.actor) || news;
        }
        if (news) this.changed();
      }),
      session.on("live", () => {
        this.look();
        if (this.own !== null) this.tell(this.own).catch(() => void 0);
      }),
      session.on("signal", (signal) => this.signalled(signal))
    );
    if (session.live) this.look();
  }
  /** Who is there, each participant once, however many devices; the longest there first. */
  get members() {
    return this.present.participants;
  }
  get devices() {
    return this.present.devices;
  }
  /** Others who are typing now. */
  get typing() {
    const now = Date.now();
    return [...this.typists].filter(([, until]) => until > now).map(([actor]) => actor);
  }
  /** Ask the gateway who has the session open, on whatever gateway; needs no open session. */
  async who() {
    return (await this.session.ask("who", {}, "GET /presence")).members;
  }
  /** Show ourselves to the others, or something else of us; said again on every new connection. Throws `unsupported` without a WebSocket. */
  async update(own) {
    this.own = { ...this.own, ...own };
    await this.tell(this.own);
  }
  /** Be seen no more, with the session still open. */
  async leave() {
    this.own = null;
    await this.session.ask("presence", { leave: true });
  }
  /** Let the others know that we are typing. Call it at every key: it tells them now and then. */
  startedTyping() {
    const now = Date.now();
    if (now - this.toldTyping < TYPING_MS - 1e3) return;
    this.toldTyping = now;
    this.session.signal({ type: "typing" });
  }
  async tell(own) {
    await this.session.ask("presence", { ...own });
  }
  look() {
    this.present.asking();
    this.who().then(
      (members) => {
        this.present.set(members);
        this.changed();
      },
      (_error) => void 0
      // asked again at the next `live`
    );
  }
  /** Who has said what it was typing types no more. */
  said(actor) {
    if (actor === this.session.client.participant) this.toldTyping = 0;
    return this.typists.delete(actor);
  }
  signalled(signal) {
    if (signal.body["type"] !== "typing" || signal.actor === this.session.client.participant) return;
    this.typists.set(signal.actor, Date.now() + TYPING_MS);
    setTimeout(() => this.changed(), TYPING_MS + 50);
    this.changed();
  }
};

// src/life/runs.ts
function policy(session) {
  return {
    async set(fields) {
      const answer = await session.ask("policy", { policy: fields }, "PUT /policy");
      return answer.policy;
    }
  };
}
async function runs(session) {
  return (await session.ask("runs", {}, "GET /runs")).runs;
}

// src/life/state.ts
import { FabricError as FabricError6 } from "./session-fabric.js";
var ONE = "/state/{document}";
var POLL_MS = 2e3;
function state(session) {
  return new Documents(session);
}
var Documents = class {
  constructor(session) {
    this.session = session;
  }
  async get(document) {
    return plain(await this.session.ask("state.get", { document }, `GET ${ONE}`));
  }
  /** Write a document. `revision` is compared: 0 for one that must not exist; null for whatever is there. */
  put(document, body, revision = null) {
    return this.write("state.put", `PUT ${ONE}`, document, revision, (current) => same(current, body), body);
  }
  /** Change a document by a JSON Merge Patch (RFC 7396): what is null in it is taken away. */
  patch(document, body, revision = null) {
    return this.write("state.patch", `PATCH ${ONE}`, document, revision, (current) => same(current, merged(current, body)), body);
  }
  delete(document, revision = null) {
    return this.write("state.delete", `DELETE ${ONE}`, document, revision, (current) => current === null);
  }
  /** The documents that there are, by name, without their bodies. */
  async list() {
    return (await this.session.ask("state.list", {}, "GET /state")).documents;
  }
  /** A document's newest versions, at most 8, newest first; a body of null is a deletion. */
  async history(document) {
    const answer = await this.session.ask("state.history", { document }, `GET ${ONE}/history`);
    return answer.versions;
  }
  /**
   * Call `changed` with a document (null: with all) as it is and at each change, over every reconnect; a slow
   * connection gets the newest value. `ended` says why it is over, if it is. The returned function stops it.
   */
  watch(document, changed, ended) {
    const { session } = this;
    const known = /* @__PURE__ */ new Map();
    const fields = document === null ? {} : { document };
    let stopped = false;
    let timer;
    const watchers = watchersOf(session, document);
    const offs = [];
    const stop = () => {
      if (stopped) return;
      stopped = true;
      clearTimeout(timer);
      for (const off of offs) off();
      watchers.delete(stop);
      if (watchers.size === 0) unwatch(session, document, fields);
    };
    const over = (error) => stopped ? void 0 : (stop(), ended?.(error));
    const take = (value) => {
      const last = known.get(value.document);
      if (stopped || last !== void 0 && value.revision <= last.revision && same(value.body, last.body)) return;
      if (last !== void 0 && value.revision < last.revision && value.ts !== null && value.ts < (last.ts ?? 0)) return;
      known.set(value.document, value);
      changed(plain(value));
    };
    const look = async (all) => {
      const names = document === null ? new Set((await this.list()).map((one) => one.document)) : /* @__PURE__ */ new Set([document]);
      for (const [name, { body }] of known) if (body !== null && !names.has(name)) take(await this.get(name));
      if (all) for (const name of names) take(await this.get(name));
    };
    const poll = () => {
      look(true).then(
        () => stopped || (timer = setTimeout(poll, POLL_MS)),
        (error) => over(error)
      );
    };
    const begin = () => {
      clearTimeout(timer);
      session.ask("state.watch", fields).then(
        () => document === null && known.size > 0 ? look(false).catch(() => void 0) : void 0,
        (error) => error.code === "unsupported" ? stopped || poll() : over(error)
      );
    };
    watchers.add(stop);
    offs.push(
      session.on("state", (push) => void ((document === null ? !push.document.startsWith("_") : push.document === document) && take(push))),
      session.on("gone", ({ code, message }) => over(new FabricError6(code, message))),
      session.client.on("welcome", begin)
    );
    begin();
    return stop;
  }
  async write(op, via, document, revision, done, body) {
    const fields = { document, ...body === void 0 ? {} : { body }, ...revision === null ? {} : { revision } };
    let again = 0;
    try {
      const answer = await this.session.client.ask((tries) => {
        again = tries;
        return { ...fields, op, session: this.session.name, via };
      });
      return plain(answer);
    } catch (error) {
      if (again === 0 || !(error instanceof FabricError6) || error.code !== "conflict") throw error;
      const current = error.facts["current"] ?? { document, revision: 0, body: null, by: null, ts: null };
      if (!done(current.body)) throw error;
      return plain(current);
    }
  }
};
var watched = /* @__PURE__ */ new WeakMap();
function watchersOf(session, document) {
  const documents = watched.get(session) ?? /* @__PURE__ */ new Map();
  watched.set(session, documents);
  const found = documents.get(document) ?? /* @__PURE__ */ new Set();
  documents.set(document, found);
  return found;
}
function unwatch(session, document, fields) {
  const others = [...watched.get(session) ?? []].filter(([, set]) => set.size > 0);
  session.ask("state.unwatch", { ...fields }).then(() => Promise.all(document === null ? others.map(([name]) => session.ask("state.watch", { document: name })) : [])).catch(() => void 0);
}
var plain = ({ document, revision, body, by, ts }) => ({ document, revision, body, by, ts });
var isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
function merged(target, patch) {
  if (!isObject(patch)) return patch;
  const result = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = merged(result[name], value);
  }
  return result;
}
function same(a, b) {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return false;
  const left = Object.entries(a).filter(([, value]) => value !== void 0);
  const right = new Map(Object.entries(b).filter(([, value]) => value !== void 0));
  return left.length === right.size && left.every(([name, value]) => right.has(name) && same(value, right.get(name)));
}
export {
  Agents,
  Branches,
  Changing,
  ClientTools,
  ControlFold,
  Documents,
  Floor,
  FloorFold,
  OpenRequests,
  Presence,
  Present,
  RequestFold,
  agents,
  arrange,
  branches,
  clientTools,
  floor,
  outcomeOf,
  policy,
  presence,
  requests,
  runs,
  state,
  whisper
};
