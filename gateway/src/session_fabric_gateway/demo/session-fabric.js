// @ts-nocheck
// @session-fabric/client, built from clients/typescript by `npm run build`. Do not edit.

// src/choice.ts
var TRIES = 2;
var TRUST = 6;
var FIRST_UPGRADE_MS = 6e4;
var LAST_UPGRADE_MS = 36e5;
var Choice = class {
  constructor(transports) {
    this.transports = transports;
    this.index = 0;
    this.left = TRIES;
    this.upgrade = FIRST_UPGRADE_MS;
    if (transports.length === 0) throw new Error("no transport");
  }
  get current() {
    return this.transports[this.index];
  }
  /** It was welcomed: returns how long to stay before looking for a better one, or null for as long as it lasts. */
  worked() {
    if (this.index === 0) {
      this.left = TRUST;
      return null;
    }
    const stay = this.upgrade;
    this.upgrade = Math.min(this.upgrade * 2, LAST_UPGRADE_MS);
    return stay;
  }
  /** It ended after it had worked. */
  ended() {
    if (this.index === 0) return;
    this.index = 0;
    this.left = 1;
  }
  /** It was welcomed and carries nothing all the same: not to be tried again. */
  useless() {
    const { current, transports } = this;
    if (transports.length > 1) this.transports = transports.filter((one) => one !== current);
  }
  /** It was not welcomed. */
  failed() {
    if (--this.left > 0) return;
    this.index = (this.index + 1) % this.transports.length;
    this.left = TRIES;
  }
};

// src/clock.ts
var last = Date.now();
var passed = 0;
var systemClock = {
  /**
   * Passes as `Date.now` does, while the machine sleeps too (`performance.now` stands still then in some browsers), and
   * stands still where the time is set back: a silence would else count from when that time has come again.
   */
  now() {
    const now = Date.now();
    passed += Math.max(0, now - last);
    last = now;
    return passed;
  },
  random: () => Math.random(),
  after(ms, task) {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  }
};

// src/backoff.ts
var Backoff = class {
  constructor(firstMs = 100, capMs = 3e3) {
    this.firstMs = firstMs;
    this.capMs = capMs;
    this.tries = 0;
  }
  next(random) {
    const ceiling = Math.min(this.capMs, this.firstMs * 2 ** this.tries++);
    return Math.round(ceiling * (0.5 + random / 2));
  }
  /** A connection held: the next failure is a first one again. */
  reset() {
    this.tries = 0;
  }
};

// src/errors.ts
var FabricError = class _FabricError extends Error {
  constructor(code, message, retryable = false, hint = "", facts = {}) {
    super(message.endsWith(hint) ? message : `${message} ${hint}`);
    this.code = code;
    this.retryable = retryable;
    this.hint = hint;
    this.facts = facts;
    this.name = "FabricError";
  }
  static from(refusal) {
    const { op: _op, id: _id, code, message, retryable, hint, ...facts } = refusal;
    return new _FabricError(code, message, retryable, hint, facts);
  }
};

// src/heartbeat.ts
var HEARTBEAT = { busyMs: 2e3, idleMs: 15e3, patienceMs: 3e3, doubtMs: 1500 };
var Heartbeat = class {
  constructor(now, times = HEARTBEAT) {
    this.times = times;
    this.asked = null;
    this.doubted = false;
    this.heard = now;
    this.wait = times.busyMs;
  }
  /** Something came in; `pong`: only the answer to our own question. */
  sign(now, pong) {
    this.wait = pong ? Math.min(this.wait * 2, this.times.idleMs) : this.times.busyMs;
    this.heard = now;
    this.asked = null;
    this.doubted = false;
  }
  /** The network may have changed: ask at once, and be quick to give up. */
  doubt() {
    this.doubted = true;
  }
  beat(now, busy) {
    const { busyMs, patienceMs, doubtMs } = this.times;
    if (this.asked !== null) return now - this.asked >= (this.doubted ? doubtMs : patienceMs) ? "drop" : "wait";
    if (!this.doubted && now - this.heard < (busy ? busyMs : this.wait)) return "wait";
    this.asked = now;
    return "ping";
  }
};

// src/http.ts
var Http = class {
  constructor(url, token, source) {
    this.url = url;
    this.token = token;
    this.source = source;
  }
  /** What a call made now is part of, and nothing else that its source may know. */
  trace() {
    const { traceparent, tracestate = "" } = this.source?.() ?? {};
    return traceparent ? { traceparent, tracestate } : {};
  }
  /** Send one request and read its JSON. Throws `FabricError`; `unreachable` when there was no answer. */
  async json(method, path2, request = {}) {
    const response = await this.send(method, path2, request);
    return response.status === 204 ? void 0 : await response.json();
  }
  async send(method, path2, request = {}, accept = "application/json") {
    const headers = { accept, ...request.trace ?? this.trace() };
    const token = await tokenOf(this.token);
    if (token) headers["authorization"] = `Bearer ${token}`;
    if (request.body !== void 0) headers["content-type"] = "application/json";
    const query = new URLSearchParams(JSON.parse(JSON.stringify(request.query ?? {})));
    let response;
    try {
      response = await fetch(`${this.url}${path2}${query.size ? `?${query}` : ""}`, {
        method,
        headers,
        body: JSON.stringify(request.body),
        signal: request.signal,
        cache: "no-store"
      });
    } catch (error) {
      throw new FabricError("unreachable", `${method} ${path2} had no answer: ${error}.`, true);
    }
    if (response.ok) return response;
    throw await problem(response);
  }
};
var tokenOf = async (token) => typeof token === "function" ? token() : token;
async function problem(response) {
  const { status } = response;
  const facts = await response.json().catch(() => null) ?? {};
  const { code = "internal", detail = facts["title"] ?? `The gateway answered ${status}.`, retryable, hint = "", ...rest } = facts;
  return new FabricError(`${code}`, `${detail}`, !!(retryable ?? (status >= 500 || status === 429)), `${hint}`, rest);
}

// src/words.ts
var GIVE_UP = 4500;
var TOKEN_EXPIRED = 4410;
var EXPIRED = "token_expired";
var UNHEARD = 1005;
var SUBPROTOCOL = "session-fabric.v1";
var VERSION = "0.1.0";

// src/connection.ts
var GREET_MS = 5e3;
var HELD_MS = 2e3;
var BEAT_MS = 500;
var Connection = class {
  constructor(settings, owner) {
    this.settings = settings;
    this.owner = owner;
    this.phase = "connecting";
    this.wire = null;
    /** Events of a wire that was let go are told apart by its number. */
    this.life = 0;
    this.welcomedAt = null;
    this.heartbeat = null;
    this.refusal = null;
    this.movedAt = null;
    /** Between two dials. */
    this.waiting = false;
    this.timers = /* @__PURE__ */ new Set();
    this.nextBeat = () => void 0;
    this.backoff = new Backoff();
  }
  get transport() {
    return this.settings.choice.current.name;
  }
  start() {
    void this.dial();
  }
  /** Send on a live connection; a frame sent at another time is lost, and the owner sends again after `welcomed`. */
  send(frame) {
    if (this.phase === "live") this.wire?.send(frame);
  }
  /** The machine's network or our visibility changed: find out at once whether the connection is still there. */
  doubt() {
    if (this.phase === "closed") return;
    if (this.heartbeat !== null) {
      this.heartbeat.doubt();
      this.beat();
    } else if (this.waiting) {
      this.cancelTimers();
      void this.dial();
    }
  }
  close() {
    if (this.phase !== "closed") this.giveUp(null);
  }
  /** Replace the connection now: what it may have swallowed comes again on the next one. */
  drop(reason, delayMs) {
    if (this.phase === "closed") return;
    const { clock, choice } = this.settings;
    if (this.welcomedAt === null) {
      if (this.wire !== null) choice.failed();
    } else {
      choice.ended();
      if (clock.now() - this.welcomedAt >= HELD_MS) this.backoff.reset();
    }
    const { movedAt, refusal } = this;
    this.letGo(4e3, reason);
    this.become(this.phase === "connecting" ? this.phase : "reconnecting", refusal);
    this.waiting = true;
    const wait2 = delayMs ?? (movedAt === null ? this.backoff.next(clock.random()) : Math.max(0, movedAt - clock.now()));
    this.later(wait2, () => void this.dial());
  }
  async dial() {
    const { settings } = this;
    const life = ++this.life;
    this.waiting = false;
    this.later(GREET_MS, () => this.drop("no welcome"));
    let token;
    try {
      token = await tokenOf(settings.http.token);
    } catch (error) {
      if (life !== this.life) return;
      const why = error instanceof FabricError ? error : new FabricError("no_token", `No token: ${error}.`, true);
      if (!why.retryable) return this.giveUp(why);
      this.refusal = why;
      return this.drop("no wire");
    }
    if (life !== this.life) return;
    try {
      this.wire = settings.choice.current.dial({ url: settings.http.url, token }, this.eventsOf(life, token));
    } catch {
      settings.choice.failed();
      this.drop("no wire");
    }
  }
  /** What a wire says counts until it is let go. */
  eventsOf(life, token) {
    const hello = { op: "hello", ...this.settings.hello, deltas: "compact", token };
    return {
      opened: () => life === this.life && this.wire?.send(hello),
      frame: (frame) => life === this.life && this.received(frame),
      closed: (code, reason) => life === this.life && this.closed(code, reason)
    };
  }
  received(frame) {
    this.heartbeat?.sign(this.settings.clock.now(), "op" in frame && frame.op === "pong");
    if ("op" in frame) {
      if (frame.op === "welcome") return this.welcomed(frame);
      if (frame.op === "error" && frame.id === void 0) this.refusal = FabricError.from(frame);
      if (frame.op === "moved") return this.moved(frame.after_ms);
    }
    this.owner.frame(frame);
  }
  welcomed(welcome) {
    const { clock, choice, heartbeat } = this.settings;
    this.cancelTimers();
    const stay = choice.worked();
    if (stay !== null) this.later(stay, () => this.drop("better", 0));
    this.welcomedAt = clock.now();
    this.heartbeat = new Heartbeat(clock.now(), heartbeat);
    this.become("live", null);
    this.nextBeat = this.later(BEAT_MS, () => this.beat());
    this.owner.welcomed(welcome);
  }
  moved(afterMs) {
    const { clock } = this.settings;
    if (this.movedAt !== null) return;
    const wait2 = clock.random() * afterMs;
    this.movedAt = clock.now() + wait2;
    this.later(wait2, () => this.drop("moved", 0));
  }
  beat() {
    if (this.heartbeat === null) return;
    const action = this.heartbeat.beat(this.settings.clock.now(), this.owner.busy());
    if (action === "drop") return this.drop("silence");
    if (action === "ping") this.wire?.send({ op: "ping", id: 0 });
    this.nextBeat();
    this.nextBeat = this.later(BEAT_MS, () => this.beat());
  }
  closed(code, reason) {
    if (code === UNHEARD) this.settings.choice.useless();
    const expired = code === TOKEN_EXPIRED;
    if (code < GIVE_UP && !(expired && typeof this.settings.http.token !== "function")) return this.drop(reason);
    this.giveUp(this.refusal ?? new FabricError(expired ? EXPIRED : "given_up", `The gateway closed for good (${code} ${reason}).`));
  }
  giveUp(error) {
    this.letGo(1e3, "closed");
    this.become("closed", error);
  }
  letGo(code, reason) {
    this.life += 1;
    this.waiting = false;
    this.cancelTimers();
    this.wire?.close(code, reason);
    this.wire = this.heartbeat = this.welcomedAt = this.movedAt = this.refusal = null;
  }
  become(phase, error) {
    this.phase = phase;
    this.owner.phase(phase, error);
  }
  /** Every timer of ours goes when the wire goes. */
  later(ms, task) {
    const off = this.settings.clock.after(ms, () => {
      this.timers.delete(off);
      task();
    });
    this.timers.add(off);
    return () => {
      this.timers.delete(off);
      off();
    };
  }
  cancelTimers() {
    for (const off of this.timers) off();
    this.timers.clear();
  }
};

// src/emitter.ts
var Emitter = class {
  constructor() {
    this.listeners = /* @__PURE__ */ new Map();
  }
  /** Call `listener` for each; the returned function takes it away again. */
  on(name, listener) {
    const set = this.listeners.get(name) ?? /* @__PURE__ */ new Set();
    this.listeners.set(name, set);
    set.add(listener);
    return () => void set.delete(listener);
  }
  emit(name, value) {
    for (const listener of [...this.listeners.get(name) ?? []]) {
      try {
        listener(value);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
};

// src/frames.ts
function expand(events) {
  let type = "";
  let actor = "";
  let run = null;
  let ts;
  return events.map((event) => {
    type = event.type ?? type;
    actor = event.actor ?? actor;
    if (event.run !== void 0) run = event.run;
    ts = event.ts ?? ts;
    return { ...event, type, actor, run, ...ts === void 0 ? {} : { ts } };
  });
}
var Refs = class {
  constructor() {
    this.refs = /* @__PURE__ */ new Map();
  }
  announce(ref) {
    const refs = this.refs.get(ref.sub) ?? /* @__PURE__ */ new Map();
    this.refs.set(ref.sub, refs);
    refs.set(ref.ref, { ...ref });
  }
  forget(sub) {
    this.refs.delete(sub);
  }
  /** Write compact deltas out as events. Throws for a ref that was never announced: the stream cannot be trusted then. */
  expand(frame) {
    const refs = this.refs.get(frame[0]);
    const events = [];
    for (let i = 1; i + 2 < frame.length; i += 3) {
      const ref = refs?.get(frame[i]);
      const text2 = frame[i + 2];
      if (ref === void 0 || typeof text2 !== "string") throw new TypeError();
      const key = ref.type === "TOOL_CALL_ARGS" ? "toolCallId" : "messageId";
      events.push({
        offset: `${ref.segment}_${String(frame[i + 1]).padStart(16, "0")}`,
        type: ref.type,
        actor: ref.actor,
        run: ref.run,
        at: ref.at,
        body: { type: ref.type, [key]: ref.message, delta: text2 }
      });
      ref.at += text2.length;
    }
    return events;
  }
};
var textOf = (frame) => JSON.stringify({ ...frame, ...frame.trace, via: void 0, trace: void 0 });
function parseFrame(text2) {
  let value;
  try {
    value = JSON.parse(text2);
  } catch {
    return void 0;
  }
  if (Array.isArray(value)) return typeof value[0] === "number" ? value : void 0;
  return typeof value === "object" && value !== null && "op" in value ? value : void 0;
}

// src/ids.ts
function newId(prefix = "") {
  const bytes = crypto.getRandomValues(new Uint8Array(26));
  return prefix + Array.from(bytes, (byte) => (byte & 31).toString(32)).join("");
}

// src/machine.ts
function watchMachine(doubt) {
  const { window, document } = globalThis;
  const stop = new AbortController();
  const { signal } = stop;
  for (const name of ["online", "offline", "pageshow"]) window?.addEventListener?.(name, doubt, { signal });
  document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && doubt(), { signal });
  return () => stop.abort();
}

// src/requests.ts
var MAX_PENDING = 1e3;
var Requests = class {
  constructor(send, clock) {
    this.send = send;
    this.clock = clock;
    this.next = 1;
    this.pending = /* @__PURE__ */ new Map();
  }
  get waiting() {
    return this.pending.size > 0;
  }
  /** Ask; the returned function forgets the question without an answer. */
  start(build, answered, refused) {
    if (this.pending.size >= MAX_PENDING) {
      refused(new FabricError("limit_exceeded", `${MAX_PENDING} requests wait.`, true));
      return () => void 0;
    }
    const id = this.next++;
    this.pending.set(id, { build, answered, refused, backoff: new Backoff(200), tries: 0 });
    this.try(id);
    return () => void this.pending.delete(id);
  }
  ask(build, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(aborted());
      const abort = () => (forget(), reject(aborted()));
      const done = (settle) => (value) => {
        signal?.removeEventListener("abort", abort);
        settle(value);
      };
      const forget = this.start(build, done(resolve), done(reject));
      signal?.addEventListener("abort", abort, { once: true });
    });
  }
  /** A new connection is there: everything unanswered is asked again, in order. */
  again() {
    for (const id of [...this.pending.keys()]) this.try(id);
  }
  /** Hand an answer to whom it belongs, if it is anybody's. */
  answer(frame) {
    const { id } = frame;
    const pending = this.pending.get(id);
    if (!pending) return;
    if (frame.op === "error" && frame.retryable) {
      this.clock.after(pending.backoff.next(this.clock.random()), () => this.try(id));
      return;
    }
    this.pending.delete(id);
    if (frame.op === "error") pending.refused(FabricError.from(frame));
    else pending.answered(frame);
  }
  /** Nothing will be answered any more. */
  end(error) {
    const all = [...this.pending.values()];
    this.pending.clear();
    for (const { refused } of all) refused(error);
  }
  try(id) {
    const pending = this.pending.get(id);
    if (!pending) return;
    let frame;
    try {
      frame = pending.build(pending.tries++);
    } catch (error) {
      this.pending.delete(id);
      return pending.refused(error);
    }
    this.send({ id, ...frame });
  }
};
function aborted() {
  return new FabricError("aborted", "Called off by its signal.");
}

// src/fold/text.ts
var MAX_KEPT = 4096;
var Text = class {
  constructor() {
    this.text = "";
    this.done = false;
    this.kept = /* @__PURE__ */ new Map();
    this.loose = /* @__PURE__ */ new Map();
  }
  /** The text so far: everything up to the first hole. */
  get value() {
    return this.text + [...this.loose.keys()].sort().map((offset) => this.loose.get(offset)).join("");
  }
  /** Add a piece at its position: cut where it overlaps, kept back where it leaves a hole. */
  put(at, piece) {
    if (this.done) return;
    if (at > this.text.length) {
      if (this.kept.size < MAX_KEPT && piece.length > (this.kept.get(at)?.length ?? 0)) this.kept.set(at, piece);
      return;
    }
    this.text += piece.slice(this.text.length - at);
    this.takeKept();
  }
  /** Add a piece whose writer gave no position: behind the rest, in the order of the log. */
  putLoose(offset, piece) {
    if (!this.done) this.loose.set(offset, piece);
  }
  /** Replace the text by a snapshot of it, if that knows more. */
  cover(text2) {
    if (this.done || text2.length <= this.text.length) return;
    this.text = text2;
    this.takeKept();
  }
  /** Replace the text by the whole of it; later pieces change nothing. */
  finish(text2) {
    this.text = text2;
    this.done = true;
    this.kept.clear();
    this.loose.clear();
  }
  takeKept() {
    for (const at of [...this.kept.keys()].sort((a, b) => a - b)) {
      if (at > this.text.length) break;
      this.text += (this.kept.get(at) ?? "").slice(this.text.length - at);
      this.kept.delete(at);
    }
  }
};

// src/fold/messages.ts
var ENDED = {
  completed: "completed",
  cancelled: "interrupted",
  orphaned: "interrupted",
  failed: "failed"
};
var OFFSET = /^\d{16}_\d{16}$/;
var GrowingCall = class {
  constructor(id) {
    this.id = id;
    this.name = "";
    this.args = new Text();
    this.result = null;
    this.resultAt = null;
    /** The messages that show it. */
    this.owners = /* @__PURE__ */ new Set();
  }
};
var GrowingMessage = class {
  /** `said`: by `message.user`, so not a run's to change. */
  constructor(id, event, said) {
    this.id = id;
    this.said = said;
    /** Of the first event and the newest; nothing comes behind the one or before the other as they are here. */
    this.first = "~";
    this.last = "";
    this.ts = null;
    this.role = "";
    this.text = new Text();
    this.parts = null;
    this.reasoning = new Text();
    /** Reasoning events name it. */
    this.thinks = false;
    this.done = null;
    /** Tool calls as the completion lists them. */
    this.listed = null;
    /** Tool calls by their own start. */
    this.attached = /* @__PURE__ */ new Map();
    this.touch(event);
  }
  /** Whether an event may write into it: of its run; without one, of the participant who said it. */
  isOf(event, said) {
    return this.said === said && (this.run || this.actor) === (event.run || event.actor);
  }
  touch(event) {
    if (event.offset < this.first) {
      this.first = event.offset;
      this.actor = event.actor;
      this.run = event.run;
      this.ts = event.ts ?? this.ts;
    }
    if (event.offset > this.last) this.last = event.offset;
  }
  /** Take the offset of the first event that named it, which may be gone with its deltas. */
  begin(began) {
    if (typeof began === "string" && OFFSET.test(began) && began < this.first) this.first = began;
  }
  callIds() {
    const { attached, done, listed } = this;
    const byOffset = [...attached].sort(([, a], [, b]) => a < b ? -1 : 1);
    const ids = byOffset.map(([id]) => id);
    if (listed === null || done === null) return ids;
    return [...listed, ...ids.filter((id) => attached.get(id) > done && !listed.includes(id))];
  }
};

// src/fold/fold.ts
var Fold = class {
  /** `arrange`: of `@session-fabric/client/life`, where alternatives of messages are of interest; else all are shown in a row. */
  constructor(arrange) {
    this.arrange = arrange;
    this.drafts = /* @__PURE__ */ new Map();
    this.calls = /* @__PURE__ */ new Map();
    this.runsById = /* @__PURE__ */ new Map();
    /** The events of each run's life, by offset. */
    this.lives = /* @__PURE__ */ new Map();
    this.built = /* @__PURE__ */ new Map();
    /** By run and message: since when it is of a failed attempt. */
    this.gone = /* @__PURE__ */ new Map();
    this.selected = /* @__PURE__ */ new Map();
    /** What became of messages, and wishes to have them answered again. */
    this.settled = /* @__PURE__ */ new Map();
    /** Null: to be worked out anew, and the order of those that are shown with it. */
    this.tree = null;
    this.shown = [];
    this.list = null;
  }
  get runs() {
    return this.runsById;
  }
  /** All messages in order of first appearance, but for those superseded. What has not changed is the same object as before. */
  get messages() {
    void this.branches;
    return this.list ??= this.shown.map((draft) => this.message(draft));
  }
  /** The messages that a chat shows: of alternatives the selected one, else the newest. */
  get path() {
    const path2 = this.branches?.path;
    return path2 === void 0 ? this.messages : this.messages.filter(({ id }) => path2.has(id));
  }
  /** What failed attempts of steps have said. */
  get superseded() {
    return this.those(true).map((draft) => this.message(draft));
  }
  /** The alternatives of a message, itself among them. */
  siblings(id) {
    return this.branches?.siblings(id) ?? { ids: [id], index: 0 };
  }
  has(id) {
    return this.drafts.has(id);
  }
  /** Fold one event. Types that messages do not need, and bodies without ids, change nothing. */
  add(event) {
    const handler = HANDLERS[event.type] ?? (RUN_STATES[event.type] && "run");
    if (!handler) return;
    this.list = null;
    this[handler](event, event.body);
  }
  // --- handlers, by type ---
  textStarted(event, body) {
    const draft = this.draft(event, body["messageId"]);
    if (draft !== null && draft.done === null) draft.role = text(body["role"]) || "assistant";
  }
  textDelta(event, body) {
    const draft = this.draft(event, body["messageId"]);
    if (draft === null) return;
    draft.role ||= "assistant";
    put(draft.text, event, body);
  }
  reasoning(event, body) {
    const draft = this.draft(event, body["messageId"]);
    if (draft === null) return;
    draft.thinks = true;
    if (event.type === "REASONING_MESSAGE_CONTENT") put(draft.reasoning, event, body);
  }
  touched(event, body) {
    this.draft(event, body["messageId"]);
  }
  snapshot(event, body) {
    const message = fields(body["message"]);
    const draft = this.draft(event, message["id"]);
    if (draft === null || draft.done !== null) return;
    draft.begin(body["began"]);
    this.tree = null;
    const { content, reasoning } = split(message);
    draft.role = text(message["role"]) || draft.role || "assistant";
    draft.text.cover(text(content));
    draft.reasoning.cover(reasoning);
    for (const { call, args } of this.toolCalls(draft, message) ?? []) call.args.cover(args);
  }
  completed(event, body) {
    const said = event.type === "message.user";
    const message = fields(body["message"]);
    const draft = this.draft(event, message["id"], said);
    if (draft === null || draft.done !== null && event.offset < draft.done) return;
    const { content, reasoning } = split(message);
    draft.done = event.offset;
    if (said) {
      const { parent } = body;
      draft.named = parent === null || typeof parent === "string" ? parent : void 0;
    } else {
      draft.begin(body["began"]);
    }
    this.tree = null;
    draft.role = said ? "user" : text(message["role"]) || draft.role || "assistant";
    draft.text.finish(text(content));
    draft.parts = Array.isArray(content) && content.length > 0 ? content : null;
    draft.reasoning.finish(reasoning);
    const calls = this.toolCalls(draft, message);
    draft.listed = calls?.map(({ call }) => call.id) ?? null;
    for (const { call, name, args } of calls ?? []) {
      call.name = name || call.name;
      call.args.finish(args);
    }
  }
  /** Put what its event says of a message in the place of what the message said; the first such event counts. */
  redacted(event, body) {
    const { message, calls, left } = body;
    const redacted = event.offset;
    if ((this.drafts.get(message)?.redacted ?? redacted) < redacted) return;
    for (const call of calls) this.calls.delete(call);
    this.built.clear();
    this.tree = null;
    const draft = new GrowingMessage(message, event, left.said);
    this.drafts.set(message, Object.assign(draft, left, { named: left.parent, ts: null, redacted }));
  }
  toolStarted(event, body) {
    const id = body["toolCallId"];
    if (typeof id !== "string") return;
    const draft = this.draft(event, body["parentMessageId"] || id);
    if (draft === null) return;
    const call = this.call(id, draft);
    call.name ||= text(body["toolCallName"]);
    if (!draft.attached.has(id)) draft.attached.set(id, event.offset);
  }
  toolDelta(event, body) {
    const id = body["toolCallId"];
    if (typeof id === "string") put(this.call(id).args, event, body);
  }
  toolEnded(_event, body) {
    const { toolCallId: id, args } = body;
    if (typeof id === "string" && typeof args === "string") this.call(id).args.finish(args);
  }
  toolResult(event, body) {
    const id = body["toolCallId"];
    if (typeof id !== "string") return;
    const call = this.call(id);
    if (call.resultAt !== null && event.offset < call.resultAt) return;
    call.result = body["content"] ?? null;
    call.resultAt = event.offset;
  }
  run(event, body) {
    const id = event.run || body["run"] || body["runId"];
    if (typeof id !== "string") return;
    const life = this.lives.get(id) ?? /* @__PURE__ */ new Map();
    this.lives.set(id, life.set(event.offset, event));
    this.runsById.set(id, runOf(id, life));
    if (event.type === "RUN_STARTED") this.tree = null;
  }
  step({ run, offset }, body) {
    const { supersedes } = body;
    if (!run || !Array.isArray(supersedes)) return;
    for (const id of supersedes) {
      const key = goneKey(run, id);
      if (offset > (this.gone.get(key) ?? "")) this.gone.set(key, offset);
    }
    this.tree = null;
  }
  select({ offset }, { message }) {
    if (typeof message !== "string") return;
    this.selected.set(offset, message);
    this.tree = null;
  }
  settle(event, { message }) {
    this.settled.set(message, [...this.settled.get(message) ?? [], event]);
    this.built.delete(message);
  }
  // --- parts ---
  get branches() {
    if (this.tree === null) {
      this.shown = this.those(false);
      this.tree = this.arrange?.(this.shown, this.selected, (run) => this.runsById.get(run)?.message);
    }
    return this.tree;
  }
  those(gone) {
    return [...this.drafts.values()].filter((draft) => this.isGone(draft) === gone).sort((a, b) => a.first < b.first || a.first === b.first && a.id < b.id ? -1 : 1);
  }
  /** Whether it is of a failed attempt. One that was begun again under its id is a message again. */
  isGone({ run, id, last: last2 }) {
    return run !== null && last2 < (this.gone.get(goneKey(run, id)) ?? "");
  }
  delivery(id) {
    const about = (this.settled.get(id) ?? []).sort((a, b) => a.offset < b.offset ? 1 : -1);
    const again = about.filter(({ type }) => type === REGENERATE);
    const own = about.find(({ type, body }) => type !== REGENERATE && !again.some(({ offset }) => offset === body["input"]));
    return own ? own.type.slice("message.".length) : null;
  }
  message(draft) {
    const status = draft.done ? "completed" : ENDED[this.runsById.get(draft.run)?.state] ?? "open";
    const cached = this.built.get(draft.id);
    const parent = this.branches?.parents.get(draft.id);
    if (cached?.status === status && cached.parent === parent) return cached;
    const calls = draft.callIds().flatMap((id) => this.calls.get(id) ?? []);
    const message = {
      id: draft.id,
      role: draft.role || (draft.thinks && calls.length === 0 ? "reasoning" : "assistant"),
      actor: draft.actor,
      run: draft.run,
      content: draft.parts ?? draft.text.value,
      reasoning: draft.reasoning.value,
      toolCalls: calls.map(({ id, name, args, result }) => ({ id, name, args: args.value, result })),
      status,
      first: draft.first,
      last: draft.last,
      ts: draft.ts,
      parent,
      delivery: draft.said ? this.delivery(draft.id) : null,
      redacted: draft.redacted !== void 0
    };
    this.built.set(draft.id, message);
    return message;
  }
  /** Return the message that an event writes into, or null where it may not, or names none. */
  draft(event, id, said = false) {
    if (typeof id !== "string") return null;
    let draft = this.drafts.get(id);
    if (draft?.redacted) return null;
    const mine = draft?.isOf(event, said) === true;
    if (draft === void 0 || event.offset < draft.first || this.gone.has(goneKey(event.run, id))) this.tree = null;
    if (draft === void 0 || !mine && event.offset < draft.first) {
      draft = new GrowingMessage(id, event, said);
      this.drafts.set(id, draft);
    } else if (!mine) {
      return null;
    }
    draft.touch(event);
    this.built.delete(id);
    return draft;
  }
  /** Return a call that is about to change, and is `owner`'s too from now on. */
  call(id, owner) {
    const call = this.calls.get(id) ?? new GrowingCall(id);
    this.calls.set(id, call);
    if (owner !== void 0) call.owners.add(owner.id);
    for (const message of call.owners) this.built.delete(message);
    return call;
  }
  /** Read AG-UI's `toolCalls` of a message: `[{"id":…,"function":{"name":…,"arguments":…}}]`. */
  toolCalls(draft, message) {
    const found = message["toolCalls"];
    if (!Array.isArray(found)) return null;
    return found.map(fields).flatMap((item) => {
      const made = fields(item["function"]);
      if (typeof item["id"] !== "string") return [];
      return [{ call: this.call(item["id"], draft), name: text(made["name"]), args: text(made["arguments"]) }];
    });
  }
};
var REGENERATE = "message.regenerate";
function runOf(id, life) {
  let run = { generation: 1, pool: null, input: null, message: null };
  for (const since of [...life.keys()].sort()) {
    const { type, actor, body } = life.get(since);
    const { generation } = body;
    const state = runState(type, body);
    const said = (name, when = true) => when && text(body[name]) || null;
    const failed = state === "failed";
    run = {
      ...run,
      ...type === "RUN_STARTED" && { pool: said("pool"), input: said("input"), message: said("message") },
      ...Number.isInteger(generation) && { generation },
      state,
      agent: text(body["agent"]) || (run.agent ?? actor),
      since,
      request: said("request", state === "suspended"),
      error: said("message", failed),
      code: said("code", failed)
    };
  }
  return { id, ...run };
}
function runState(type, { outcome }) {
  const kind = typeof outcome === "object" ? fields(outcome)["type"] : outcome;
  const cancelled = type === "RUN_FINISHED" && (kind ?? "success") !== "success";
  return cancelled ? "cancelled" : RUN_STATES[type];
}
function put(into, event, body) {
  const piece = text(body["delta"]);
  if (event.at === void 0) into.putLoose(event.offset, piece);
  else into.put(event.at, piece);
}
function split(message) {
  if (message["role"] === "reasoning") return { content: "", reasoning: text(message["content"]) };
  return { content: message["content"], reasoning: text(message["reasoning"]) };
}
var goneKey = (run, id) => `${run}
${id}`;
var text = (value) => typeof value === "string" ? value : "";
var fields = (value) => typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
var RUN_STATES = {
  __proto__: null,
  "run.claimed": "claimed",
  "run.suspended": "suspended",
  "run.resumed": "running",
  "run.orphaned": "orphaned",
  "run.taken_over": "running",
  RUN_STARTED: "running",
  RUN_FINISHED: "completed",
  RUN_ERROR: "failed"
};
var HANDLERS = {
  __proto__: null,
  "message.user": "completed",
  "message.completed": "completed",
  "message.snapshot": "snapshot",
  "message.redacted": "redacted",
  "message.steered": "settle",
  "message.rejected": "settle",
  "message.expired": "settle",
  [REGENERATE]: "settle",
  "branch.selected": "select",
  STEP_STARTED: "step",
  TEXT_MESSAGE_START: "textStarted",
  TEXT_MESSAGE_CONTENT: "textDelta",
  TEXT_MESSAGE_END: "touched",
  REASONING_MESSAGE_START: "reasoning",
  REASONING_MESSAGE_CONTENT: "reasoning",
  REASONING_MESSAGE_END: "touched",
  TOOL_CALL_START: "toolStarted",
  TOOL_CALL_ARGS: "toolDelta",
  TOOL_CALL_END: "toolEnded",
  TOOL_CALL_RESULT: "toolResult"
};

// src/conversation.ts
var Conversation = class {
  constructor(session, options) {
    this.session = session;
    this.emitter = new Emitter();
    this.outgoing = [];
    this.scheduled = false;
    /** Why the session is over for us, if it is. */
    this.error = null;
    this.fold = new Fold(options.arrange);
    this.subscription = this.open(options);
    this.off = session.client.on("status", () => this.changed());
  }
  get messages() {
    return this.fold.messages;
  }
  /** The branch that is shown; all of `messages` where there are no branches, or no `arrange`. */
  get path() {
    return this.fold.path;
  }
  /** The alternatives of a message (edits, answers made anew), itself among them. */
  siblings(id) {
    return this.fold.siblings(id);
  }
  /** Ours that the log does not have yet, in the order of sending. */
  get sending() {
    return this.outgoing;
  }
  get runs() {
    return this.fold.runs;
  }
  get activeRuns() {
    return [...this.fold.runs.values()].filter(({ state }) => ENDED[state] === void 0);
  }
  get stage() {
    return this.error !== null ? "ended" : this.subscription?.stage ?? "ended";
  }
  on(name, listener) {
    return this.emitter.on(name, listener);
  }
  /**
   * Say something. Shown at once in `sending`; resolves when the log has it; tried for as long as it takes. Said again
   * with the same id, by this page or after its reload, it is one message.
   */
  async send(text2, id = newId("m")) {
    if (!this.fold.has(id)) await this.deliver({ id, text: text2, error: null });
  }
  /** Try a message again that was refused. */
  async resend(id) {
    const failed = this.outgoing.find((message) => message.id === id);
    if (failed?.error) await this.deliver({ ...failed, error: null });
  }
  /** Stop what is running; what it has said stays. */
  async stop() {
    await Promise.all(this.activeRuns.map(({ id }) => this.session.control("interrupt", id)));
  }
  close() {
    this.off();
    this.subscription?.close();
    this.subscription = null;
  }
  open(options) {
    const ended = (error) => {
      if (error.code === "offset_gone") {
        this.fold = new Fold(options.arrange);
        this.subscription = this.open({ ...options, after: "start" });
      } else {
        this.error = error;
      }
      this.changed();
    };
    const changed = () => this.changed();
    return this.session.open({ events: (events) => this.take(events), live: changed, opened: changed, ended }, options);
  }
  async deliver(message) {
    const { id, text: text2 } = message;
    this.put(message);
    try {
      if (this.error) throw this.error;
      await this.session.append({ type: "message.user", message: { id, role: "user", content: text2 } }, { id });
    } catch (error) {
      this.put({ ...message, error });
      throw error;
    }
  }
  put(message) {
    const others = this.outgoing.filter(({ id }) => id !== message.id);
    this.outgoing = this.fold.has(message.id) ? others : [...others, message];
    this.changed();
  }
  take(events) {
    for (const event of events) {
      this.fold.add(event);
      this.emitter.emit("event", event);
    }
    if (this.outgoing.length > 0) this.outgoing = this.outgoing.filter(({ id }) => !this.fold.has(id));
    this.changed();
  }
  /** Tell once for all that happens within a frame of time. */
  changed() {
    if (this.scheduled) return;
    this.scheduled = true;
    schedule(() => {
      this.scheduled = false;
      this.emitter.emit("change", this);
    });
  }
};
function schedule(task) {
  const { document, requestAnimationFrame } = globalThis;
  const seen = requestAnimationFrame && document?.visibilityState === "visible";
  const once = () => {
    task();
    task = () => void 0;
  };
  if (seen) requestAnimationFrame(once);
  setTimeout(once, seen ? 100 : 30);
}

// src/position.ts
var isOffset = (after) => after < "a";
var KEPT = 2e3;
var Position = class {
  constructor(after) {
    /** What comes now is told as it happens: it may have holes until a mark covers it. */
    this.live = false;
    /** Offsets that were let through: those above `resume`, and the last ones up to it. */
    this.had = /* @__PURE__ */ new Set();
    this.resume = after;
  }
  opened(head) {
    this.live = false;
    if (this.resume === "tail" && head !== null) this.resume = head;
  }
  /** Return the events that have not been let through before. */
  take(events) {
    const fresh = events.filter(({ offset }) => !this.covered(offset) && !this.had.has(offset));
    for (const { offset } of fresh) this.had.add(offset);
    const last2 = events.at(-1);
    if (last2 !== void 0 && !this.live) this.settle(last2.offset);
    return fresh;
  }
  wentLive() {
    this.live = true;
  }
  /** Everything up to here is there. What follows, be it what came before we were live, is not known to be whole. */
  mark(offset) {
    this.live = true;
    this.settle(offset);
  }
  rewind(to) {
    if (this.covered(to)) this.resume = to;
  }
  covered(offset) {
    return isOffset(this.resume) && offset <= this.resume;
  }
  settle(offset) {
    if (this.covered(offset)) return;
    this.resume = offset;
    for (const had of this.had) {
      if (this.had.size <= KEPT || had > offset) return;
      this.had.delete(had);
    }
  }
};

// src/queue.ts
var Queue = class {
  /** `overflow` makes the error with which a reader that is `max` items behind is ended, after those it has. */
  constructor(max, overflow, left) {
    this.max = max;
    this.overflow = overflow;
    this.left = left;
    this.items = [];
    /** Those that are next, the very next last. */
    this.turned = [];
    this.wake = null;
    this.ended = false;
    this.error = null;
  }
  push(items) {
    for (const item of items) {
      if (this.ended) return;
      if (this.items.length + this.turned.length >= this.max) {
        this.end(this.overflow());
        this.left();
        return;
      }
      this.items.push(item);
    }
    this.wake?.();
  }
  /** Nothing more will be pushed; what is queued is still read. */
  end(error) {
    if (this.ended) return;
    this.ended = true;
    this.error = error;
    this.wake?.();
  }
  async next() {
    for (; ; ) {
      if (this.turned.length === 0) [this.turned, this.items] = [this.items.reverse(), []];
      const value = this.turned.pop();
      if (value !== void 0) return { done: false, value };
      if (this.ended) {
        if (this.error) throw this.error;
        return { done: true, value: void 0 };
      }
      await new Promise((resolve) => this.wake = resolve);
      this.wake = null;
    }
  }
  return() {
    this.end(null);
    this.error = null;
    this.items = this.turned = [];
    this.left();
    return this.next();
  }
  [Symbol.asyncIterator]() {
    return this;
  }
};

// src/session.ts
var Session = class {
  constructor(name, client) {
    this.name = name;
    this.client = client;
    this.emitter = new Emitter();
    this.subscription = null;
    this.lastAppend = Promise.resolve();
  }
  /** Whether it is open, with its history through. */
  get live() {
    return this.subscription?.stage === "live";
  }
  /** Open the session and be called with its events, over every reconnect, until closed. One at a time. */
  open(handlers, options = {}) {
    return this.subscription = this.client.open(this.name, options, handlers);
  }
  /** Read the session's events from `after` on, then as they happen, for ever; each once. */
  follow(options = {}) {
    const { signal, maxQueued = 1e5, ...open } = options;
    const leave = () => {
      subscription.close();
      signal?.removeEventListener("abort", abort);
    };
    const overflow = () => {
      return new FabricError("overflow", `${maxQueued} events wait: go on at facts.after.`, true, "", { after: subscription.resume });
    };
    const queue = new Queue(maxQueued, overflow, leave);
    const abort = () => {
      queue.end(null);
      leave();
    };
    const subscription = this.open({ events: (events) => queue.push(events), ended: (error) => queue.end(error) }, open);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
    return queue;
  }
  /**
   * Write an event. Resolves when the log has it, however often the connection breaks meanwhile: it is sent again with
   * the same id, body and `since` until there is an answer. Events of one session are stored in the order of the calls.
   */
  append(body, { id, signal } = {}) {
    if (signal?.aborted) return Promise.reject(aborted());
    const event = { id: id ?? newId("e"), body };
    const trace = this.client.http.trace();
    const stored = this.lastAppend.then(() => {
      const after = this.subscription?.resume;
      return this.client.ask(
        // `since` makes the gateway look for an earlier try, which the first try has no need of.
        (tries) => ({ op: "append", session: this.name, event, since: tries && isOffset(after) ? after : void 0 }),
        signal,
        trace
      );
    }).then(appended);
    this.lastAppend = stored.catch(() => void 0);
    return stored;
  }
  /** Ask a run to stop, or to take another way. Resolves when the request is in the log; what came of it is an event. */
  async control(action, run, options = {}) {
    const { body, deadlineMs, id: event = newId("c"), signal } = options;
    const answer = await this.client.ask(
      () => ({
        op: "control",
        session: this.name,
        run,
        action,
        event,
        body,
        deadline_ms: deadlineMs
      }),
      signal
    );
    return { ...appended(answer), request: event };
  }
  /**
   * Have the gateway do one of its other operations, again after each cut until there is an answer; `via` is how HTTP
   * asks the same. `@session-fabric/client/life` has them by name.
   */
  async ask(op, fields2 = {}, via, signal) {
    const frame = { ...fields2, op, session: this.name, via };
    return await this.client.ask(() => frame, signal);
  }
  /** Tell the others something that is not worth storing; it may be lost. */
  signal(body) {
    this.client.tell({ op: "signal", session: this.name, body });
  }
  /** Say how far we have read. */
  async cursor(offset) {
    await this.client.ask(() => ({ op: "cursor", session: this.name, offset, device: this.client.device, via: "PUT /cursor" }));
  }
  /** The session's record. */
  record() {
    return this.client.http.json("GET", `/v1/sessions/${encodeURIComponent(this.name)}`);
  }
  /** The session as people see it: messages, tools, runs, who is there. Opens it. */
  conversation(options = {}) {
    return new Conversation(this, options);
  }
  /** Call `listener` for each; the returned function takes it away again. */
  on(name, listener) {
    return this.emitter.on(name, listener);
  }
  /** For the client: tell the listeners. */
  tell(name, value) {
    this.emitter.emit(name, value);
  }
};
function appended(answer) {
  const { offset, duplicate = false } = answer;
  return { offset, duplicate };
}

// src/subscription.ts
var Subscription = class {
  constructor(session, options, handlers, leave, listening) {
    this.session = session;
    this.options = options;
    this.handlers = handlers;
    this.leave = leave;
    this.listening = listening;
    this.stage = "opening";
    /** The gateway's number for it on this connection. */
    this.sub = null;
    /** Forgets an `open` that has no answer yet. */
    this.forgetOpen = () => void 0;
    this.position = new Position(options.after ?? "start");
  }
  /** From where another reader would go on without missing anything. */
  get resume() {
    return this.position.resume;
  }
  close() {
    if (this.stage === "ended") return;
    this.end();
    this.leave(this);
  }
  // --- called by the client ---
  frame() {
    const { view, presence } = this.options;
    return { op: "open", session: this.session, after: this.position.resume, view, presence };
  }
  opened(frame) {
    this.sub = frame.sub;
    this.stage = "catching-up";
    this.position.opened(frame.head);
    this.handlers.opened?.(frame.session, frame.head);
  }
  disconnected() {
    this.forgetOpen();
    this.sub = null;
    if (this.stage !== "ended") this.stage = "opening";
  }
  events(events) {
    if (this.stage === "ended") return;
    const fresh = this.position.take(events);
    if (fresh.length === 0) return;
    this.handlers.events?.(fresh);
    this.listening.tell("events", fresh);
  }
  received(frame) {
    if (this.stage === "ended") return;
    switch (frame.op) {
      case "events":
        return this.events(expand(frame.events));
      case "live":
        this.stage = "live";
        this.position.wentLive();
        this.handlers.live?.();
        return this.listening.tell("live");
      case "mark":
        this.position.mark(frame.offset);
        return this.handlers.mark?.(frame.offset);
      case "rewind":
        this.position.rewind(frame.to);
        return this.handlers.rewind?.(frame.to);
      case "gone":
        return this.ended(new FabricError(frame.code, frame.message));
    }
  }
  ended(error) {
    if (this.stage === "ended") return;
    const { handlers } = this;
    this.end();
    handlers.ended?.(error);
    this.listening.tell("ended", error);
  }
  /** A session keeps it for where it was, and is not to keep all that it told. */
  end() {
    this.stage = "ended";
    this.handlers = {};
    this.position = new Position(this.resume);
  }
};

// src/transports/sse.ts
var SseParser = class {
  constructor() {
    this.rest = "";
    this.event = "";
    this.data = [];
  }
  push(text2) {
    const found = [];
    const lines = (this.rest + text2).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (this.data.length > 0) found.push({ event: this.event || "message", data: this.data.join("\n") });
        this.event = "";
        this.data = [];
        continue;
      }
      const [, field, value = ""] = /^([^:]*):? ?(.*)/s.exec(line);
      if (field === "event") this.event = value;
      else if (field === "data") this.data.push(value);
    }
    return found;
  }
};

// src/transports/http.ts
var SILENCE_MS = 6e4;
var FIRST_MS = 5e3;
var POLL_MS = 25e3;
var HELD = 4;
var ASK_MS = 1e3;
var AGAIN = 4;
var AGAIN_MS = 40;
function httpTransports() {
  return ["sse", "long-poll"].map((way) => ({
    name: way,
    available: () => way === "long-poll" || typeof TextDecoderStream === "function",
    dial: (target, events) => new HttpWire(way, new Http(target.url, target.token), events)
  }));
}
var HttpWire = class {
  constructor(way, http, events) {
    this.way = way;
    this.http = http;
    this.events = events;
    this.subs = 0;
    this.reading = /* @__PURE__ */ new Map();
    this.all = new AbortController();
    queueMicrotask(() => events.opened());
  }
  close() {
    this.all.abort();
    for (const one of this.reading.values()) one.abort();
  }
  send(frame) {
    const { id } = frame;
    this.carry(frame, id ?? 0).catch((error) => this.failed(error, id));
  }
  async carry({ trace, ...sent }, id) {
    const frame = sent;
    switch (frame.op) {
      case "hello":
        await this.ask("GET", "/v1/sessions?limit=1");
        return this.say({ op: "welcome", connection: this.way, participant: "", tenant: "", heartbeat_s: 25, limits: {} });
      case "open":
        return this.open(frame, id);
      case "ping":
        await this.ask("GET", "/healthz");
        return this.say({ op: "pong", id });
      case "close":
        return this.reading.get(frame.sub)?.abort();
      case "refresh": {
        await this.http.json("POST", "/v1/refresh", { body: { token: frame.token }, signal: this.all.signal });
        this.http = new Http(this.http.url, frame.token);
        return this.say({ op: "ok", id });
      }
      case "signal":
        return void 0;
      case "append":
        return this.answer("POST", path(frame, "/events"), { ...frame.event, since: frame.since }, id, trace);
      case "control": {
        const { op: _op, id: _id, session: _session, event, ...rest } = frame;
        return this.answer("POST", path(frame, "/control"), { id: event, ...rest }, id, trace);
      }
      default: {
        const { op, id: _id, session: _session, via, ...rest } = frame;
        if (via === void 0) throw new FabricError("unsupported", `${op} needs a WebSocket.`);
        const [method, form] = via.split(" ");
        const where = form.replace(/{(\w+)}/g, (_, name) => {
          const value = encodeURIComponent(String(rest[name]));
          delete rest[name];
          return value;
        });
        return this.answer(method, path(frame, where), rest, id, trace);
      }
    }
  }
  /** Ask over HTTP, and say the answer as the frame with the fields of its body. */
  async answer(method, path2, fields2, id, trace) {
    const given = /GET|DEL/.test(method) ? { query: fields2 } : { body: fields2 };
    const answer = await this.ask(method, path2, { ...given, trace });
    this.say({ ...answer, op: "ok", id });
  }
  async open(frame, id) {
    const record = await this.ask("POST", "/v1/sessions", { body: { session: frame.session } });
    const { head = null } = record.head ? record : await this.ask("GET", path(frame, ""));
    const sub = this.subs += 1;
    const stop = new AbortController();
    this.reading.set(sub, stop);
    this.say({ op: "opened", id, sub, head, session: record });
    const reader = this.way === "sse" && await hold(stop.signal) ? this.stream(frame, sub, stop) : this.poll(frame, sub, stop);
    reader.then(
      () => stop.signal.aborted || this.broken("ended"),
      (error) => {
        if (stop.signal.aborted) return;
        const { code, message, retryable = true } = error;
        if (retryable) return this.broken(message);
        this.say({ op: "gone", sub, code, message });
      }
    );
  }
  async stream(frame, sub, stop) {
    const request = { query: { after: frame.after, view: frame.view, live: "sse" }, signal: stop.signal };
    let silence;
    const listen = (ms, code) => {
      clearTimeout(silence);
      silence = setTimeout(() => this.broken("silence", code), ms);
    };
    const parser = new SseParser();
    try {
      listen(FIRST_MS, UNHEARD);
      const response = await this.taken(() => this.http.send("GET", path(frame, "/events"), request, "text/event-stream"));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (; ; ) {
        const { done, value } = await reader.read();
        if (done) return;
        listen(SILENCE_MS, 1006);
        for (const { event, data } of parser.push(value)) {
          const said = JSON.parse(data);
          if (event === "message") {
            this.say({ op: "events", sub, events: [said] });
          } else {
            this.say({ ...said, op: event, sub });
          }
        }
      }
    } finally {
      clearTimeout(silence);
    }
  }
  async poll(frame, sub, stop) {
    let after = frame.after;
    let live = false;
    let held = false;
    for (; ; ) {
      held ||= await hold(stop.signal);
      const query = { after, view: frame.view, live: "long-poll", timeout_ms: held ? POLL_MS : 0 };
      const page = await this.ask("GET", path(frame, "/events"), {
        query,
        signal: stop.signal
      });
      if (stop.signal.aborted) return;
      this.say({ op: "events", sub, events: page.events });
      after = page.next ?? after;
      if (!live && (page.events.length === 0 || after >= page.head)) {
        live = true;
        this.say({ op: "live", sub });
      }
      if (page.next) this.say({ op: "mark", sub, offset: page.next });
      if (live && !held) await wait(ASK_MS);
    }
  }
  failed(error, id) {
    if (!(error instanceof FabricError) || error.code === "unreachable") return this.broken(`${error}`);
    const { code, message, retryable, hint, facts } = error;
    this.say({ ...facts, op: "error", code, message, retryable, hint, id });
    if (id !== void 0) return;
    this.broken(message, retryable ? 1011 : code === EXPIRED ? TOKEN_EXPIRED : 4501);
  }
  broken(reason, code = 1006) {
    if (this.all.signal.aborted) return;
    this.close();
    this.events.closed(code, reason);
  }
  ask(method, path2, request) {
    return this.taken(() => this.http.json(method, path2, { signal: this.all.signal, ...request }));
  }
  async taken(ask) {
    for (let tries = 0; ; tries += 1) {
      try {
        return await ask();
      } catch (error) {
        const { code } = error;
        if (code === EXPIRED) this.failed(error);
        if (tries === AGAIN || code !== "unreachable") throw error;
        await wait(Math.random() * (AGAIN_MS << tries));
      }
    }
  }
  say(frame) {
    if (!this.all.signal.aborted) this.events.frame(frame);
  }
};
var path = (frame, rest) => `/v1/sessions/${encodeURIComponent(frame.session)}${rest}`;
var wait = (ms) => new Promise((next) => setTimeout(next, ms));
async function hold(signal) {
  const locks = globalThis.document && navigator.locks;
  for (let n = HELD; locks && n--; ) {
    const got = await new Promise(
      (done) => locks.request(`session-fabric ${n}`, { ifAvailable: true }, (lock) => {
        done(lock);
        return lock && !signal.aborted && new Promise((over) => signal.addEventListener("abort", over));
      }).catch(done)
      // not to be had in a page like this one
    );
    if (got) return true;
  }
  return !locks;
}

// src/transports/websocket.ts
function webSocketTransport(implementation) {
  const Socket = implementation ?? globalThis.WebSocket;
  return {
    name: "websocket",
    available: () => Socket !== void 0,
    dial(target, events) {
      const socket = new Socket(`${target.url.replace(/^http/, "ws")}/v1/ws`, [SUBPROTOCOL]);
      let over = false;
      const end = (code, reason) => {
        if (over) return;
        over = true;
        events.closed(code, reason);
      };
      socket.onopen = () => over || events.opened();
      socket.onmessage = ({ data }) => {
        if (over) return;
        const frame = typeof data === "string" ? parseFrame(data) : void 0;
        if (frame !== void 0) return events.frame(frame);
        socket.close(4e3);
        end(1006, "unreadable");
      };
      socket.onclose = ({ code, reason }) => end(code, reason);
      socket.onerror = () => void 0;
      return {
        send(frame) {
          if (socket.readyState === 1) socket.send(textOf(frame));
        },
        close(code, reason) {
          over = true;
          socket.close(code, reason);
        }
      };
    }
  };
}

// src/client.ts
function connect(options = {}) {
  return new Client(options);
}
var Client = class {
  constructor(options) {
    /** Our participant as the gateway knows us; null before the first welcome. */
    this.participant = null;
    this.emitter = new Emitter();
    this.sessionsByName = /* @__PURE__ */ new Map();
    this.subscriptions = /* @__PURE__ */ new Map();
    this.bySub = /* @__PURE__ */ new Map();
    this.refs = new Refs();
    this.limits = {};
    const clock = options.clock ?? systemClock;
    this.device = options.device ?? newId("d");
    this.http = new Http(baseUrl(options.url), options.token, options.trace);
    const transports = options.transports ?? [webSocketTransport(options.webSocket), ...httpTransports()];
    this.connection = new Connection(
      {
        http: this.http,
        hello: { device: this.device, client: `session-fabric-js/${VERSION}` },
        choice: new Choice(transports.filter((transport) => transport.available())),
        clock,
        heartbeat: { ...HEARTBEAT, ...options.heartbeat }
      },
      this
    );
    this.requests = new Requests((frame) => this.connection.send(frame), clock);
    this.status = { phase: "connecting", broker: true, error: null, transport: this.connection.transport };
    this.unwatch = watchMachine(() => this.connection.doubt());
    this.connection.start();
  }
  /** A session by name. No I/O: it is made by the first open or append. */
  session(name) {
    const session = this.sessionsByName.get(name) ?? new Session(name, this);
    this.sessionsByName.set(name, session);
    return session;
  }
  /** The sessions that we may read, the newest change first. */
  sessions(page = {}) {
    return this.http.json("GET", "/v1/sessions", { query: page });
  }
  on(name, listener) {
    return this.emitter.on(name, listener);
  }
  /**
   * Prove who we are with a newer token before the old one expires, on the connection as it is. Where `token` is no
   * function, it takes the place of that for later connections too. Throws what the gateway has against it.
   */
  async refresh(token) {
    await this.ask(() => ({ op: "refresh", token }));
    if (typeof this.http.token !== "function") this.http.token = token;
  }
  /** Let go of everything. What has no answer yet fails with `closed`; it may or may not have been stored. */
  close() {
    this.connection.close();
  }
  // --- for sessions ---
  ask(build, signal, trace = this.http.trace()) {
    if (this.status.phase === "closed") return Promise.reject(this.why());
    return this.requests.ask((tries) => this.checked({ ...build(tries), trace }), signal);
  }
  /** Send what may be lost: not repeated, dropped when there is no connection. */
  tell(frame) {
    this.connection.send(frame);
  }
  open(session, options, handlers) {
    if (this.subscriptions.has(session)) {
      throw new FabricError("already_open", `This client has ${session} open: close or share it.`);
    }
    const subscription = new Subscription(session, options, handlers, (left) => this.left(left), this.session(session));
    this.subscriptions.set(session, subscription);
    if (this.status.phase === "live") this.opening(subscription);
    if (this.status.phase === "closed") queueMicrotask(() => this.over(this.why()));
    return subscription;
  }
  // --- for the connection ---
  busy() {
    return this.requests.waiting;
  }
  welcomed(welcome) {
    this.participant = welcome.participant || null;
    this.limits = welcome.limits ?? {};
    this.refs = new Refs();
    this.update({ broker: true });
    this.requests.again();
    for (const subscription of this.subscriptions.values()) this.opening(subscription);
    this.emitter.emit("welcome", welcome);
  }
  phase(phase, error) {
    if (phase !== "live") {
      this.bySub.clear();
      for (const subscription of this.subscriptions.values()) subscription.disconnected();
    }
    this.update({ phase, error, transport: this.connection.transport });
    if (phase !== "closed") return;
    this.unwatch();
    this.over(this.why());
  }
  opening(subscription) {
    subscription.forgetOpen();
    subscription.forgetOpen = this.requests.start(
      () => subscription.frame(),
      (given) => {
        const answer = given;
        if (subscription.stage === "ended") return this.tell({ op: "close", sub: answer.sub });
        this.bySub.set(answer.sub, subscription);
        subscription.opened(answer);
      },
      (error) => {
        if (subscription.stage === "ended") return;
        if (error.code === "already_open" && typeof error.facts["sub"] === "number") {
          this.tell({ op: "close", sub: error.facts["sub"] });
          return this.opening(subscription);
        }
        this.subscriptions.delete(subscription.session);
        subscription.ended(error);
      }
    );
  }
  left(subscription) {
    this.subscriptions.delete(subscription.session);
    if (subscription.sub === null) return;
    this.bySub.delete(subscription.sub);
    this.refs.forget(subscription.sub);
    this.tell({ op: "close", sub: subscription.sub });
  }
  frame(frame) {
    if (!("op" in frame)) {
      let events;
      try {
        events = this.refs.expand(frame);
      } catch {
        return this.connection.drop("unreadable");
      }
      return this.bySub.get(frame[0])?.events(events);
    }
    switch (frame.op) {
      case "ref":
        return this.refs.announce(frame);
      case "events":
      case "live":
      case "mark":
      case "rewind":
        return this.bySub.get(frame.sub)?.received(frame);
      case "gone": {
        if (frame.sub === void 0) return this.ambient(frame.session, frame);
        const subscription = this.bySub.get(frame.sub);
        this.bySub.delete(frame.sub);
        if (subscription !== void 0) this.subscriptions.delete(subscription.session);
        return subscription?.received(frame);
      }
      case "signal":
      case "cursor":
      case "agent": {
        const subscription = this.bySub.get(frame.sub);
        return subscription && this.ambient(subscription.session, frame);
      }
      case "state":
        if (frame.id === void 0) return this.ambient(frame.session, frame);
        break;
      case "broker":
        return this.update({ broker: frame.connected });
    }
    this.requests.answer(frame);
  }
  /** What is not of the log is told by the session to whom it may concern. */
  ambient(session, frame) {
    this.sessionsByName.get(session ?? "")?.tell(frame.op, frame);
  }
  /** Why it is closed. */
  why() {
    return this.status.error ?? new FabricError("closed", "The client was closed.");
  }
  over(error) {
    this.requests.end(error);
    const open = [...this.subscriptions.values()];
    this.subscriptions.clear();
    for (const subscription of open) subscription.ended(error);
  }
  update(change) {
    this.status = { ...this.status, ...change };
    this.emitter.emit("status", this.status);
  }
  checked(frame) {
    const limit = this.limits.max_frame_bytes;
    const bytes = new TextEncoder().encode(textOf(frame)).length + 24;
    if (!(bytes > limit)) return frame;
    throw new FabricError("too_large", `The ${frame.op} takes ${bytes} bytes; the gateway takes ${limit}.`, false, "", { limit });
  }
};
function baseUrl(url) {
  const given = `${url ?? globalThis.location?.origin}`;
  if (!/^(http|ws|\/)/.test(given)) throw new FabricError("invalid_request", `The gateway's \`url\` is ${given}.`);
  return given.replace(/^ws/, "http").replace(/\/+$/, "");
}
export {
  Client,
  Conversation,
  Emitter,
  FabricError,
  Fold,
  Http,
  Session,
  Subscription,
  connect,
  httpTransports,
  newId,
  webSocketTransport
};
