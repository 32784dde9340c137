import { FabricError } from "../errors.js";
import { Http, type HttpRequest } from "../http.js";
import type { After, ClientFrame, FabricEvent, GatewayFrame, Offset, Refusal, SessionRecord } from "../words.js";
import { EXPIRED, TOKEN_EXPIRED, UNHEARD } from "../words.js";
import type { Trace } from "../trace.js";
import { SseParser } from "./sse.js";
import type { Transport, Wire, WireEvents } from "./transport.js";

/** A stream that says nothing at all for so long is dead; the gateway's comments count as words. */
const SILENCE_MS = 60_000;
/** The same at its beginning, where the gateway says something at once: longer, and a proxy keeps it back. */
const FIRST_MS = 5_000;
const POLL_MS = 25_000;
/** Over HTTP/1.1 a browser has six connections to a host, for all its tabs: so many are held, the others left for what is asked. */
const HELD = 4;
/** Who holds none asks so often. */
const ASK_MS = 1_000;
/**
 * A request that nobody has taken is made again so often: of several gateways another one takes it, while what the others
 * of this wire have got through would be lost with the wire. Each time it waits for up to twice as long, by chance: those
 * who are refused together do not come back together, and find the connections of those who are through.
 */
const AGAIN = 4;
const AGAIN_MS = 40;

type Open = Extract<ClientFrame, { op: "open" }>;
type Other = Extract<ClientFrame, { via?: unknown }> & Record<string, unknown>;
type Way = "sse" | "long-poll";

/**
 * What to do where WebSockets are blocked: requests up, server-sent events or long polls down, as the same frames.
 *
 * What HTTP has no words for does not go this way: signals, others' cursors, presence of our own, watching documents, who we are.
 */
export function httpTransports(): Transport[] {
  return (["sse", "long-poll"] as const).map((way) => ({
    name: way,
    available: () => way === "long-poll" || typeof TextDecoderStream === "function",
    dial: (target, events) => new HttpWire(way, new Http(target.url, target.token), events),
  }));
}

class HttpWire implements Wire {
  private subs = 0;
  private readonly reading = new Map<number, AbortController>();
  private readonly all = new AbortController();

  constructor(
    private readonly way: Way,
    private http: Http,
    private readonly events: WireEvents,
  ) {
    queueMicrotask(() => events.opened());
  }

  close(): void {
    this.all.abort();
    for (const one of this.reading.values()) one.abort();
  }

  send(frame: ClientFrame): void {
    const { id } = frame as { id?: number };
    this.carry(frame, id ?? 0).catch((error: unknown) => this.failed(error, id));
  }

  private async carry({ trace, ...sent }: ClientFrame, id: number): Promise<void> {
    const frame = sent as ClientFrame;
    switch (frame.op) {
      case "hello":
        // Answered to everybody who is let in; it names nobody.
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
        // Proved before it is used; one that is refused is the caller's mistake and ends nothing.
        await this.http.json("POST", "/v1/refresh", { body: { token: frame.token }, signal: this.all.signal });
        this.http = new Http(this.http.url, frame.token);
        return this.say({ op: "ok", id });
      }
      case "signal":
        return undefined;
      case "append":
        return this.answer("POST", path(frame, "/events"), { ...frame.event, since: frame.since }, id, trace);
      case "control": {
        const { op: _op, id: _id, session: _session, event, ...rest } = frame;
        return this.answer("POST", path(frame, "/control"), { id: event, ...rest }, id, trace);
      }
      default: {
        const { op, id: _id, session: _session, via, ...rest } = frame as Other;
        if (via === undefined) throw new FabricError("unsupported", `${op} needs a WebSocket.`);
        const [method, form] = via.split(" ") as [string, string];
        const where = form.replace(/{(\w+)}/g, (_, name: string) => {
          const value = encodeURIComponent(String(rest[name]));
          delete rest[name];
          return value;
        });
        return this.answer(method, path(frame, where), rest, id, trace);
      }
    }
  }

  /** Ask over HTTP, and say the answer as the frame with the fields of its body. */
  private async answer(method: string, path: string, fields: object, id: number, trace: Trace | undefined): Promise<void> {
    const given = /GET|DEL/.test(method) ? { query: fields as HttpRequest["query"] & {} } : { body: fields };
    // An append made again within a second is known by its id, without `since`.
    const answer = await this.ask<object>(method, path, { ...given, trace });
    this.say({ ...answer, op: "ok", id });
  }

  private async open(frame: Open, id: number): Promise<void> {
    const record = await this.ask<SessionRecord>("POST", "/v1/sessions", { body: { session: frame.session } });
    const { head = null } = record.head ? record : await this.ask<SessionRecord>("GET", path(frame, ""));
    const sub = (this.subs += 1);
    const stop = new AbortController();
    this.reading.set(sub, stop);
    this.say({ op: "opened", id, sub, head, session: record });
    const reader = this.way === "sse" && (await hold(stop.signal)) ? this.stream(frame, sub, stop) : this.poll(frame, sub, stop);
    // An end that we did not ask for breaks the connection: the next one resumes.
    reader.then(
      () => stop.signal.aborted || this.broken("ended"),
      (error: unknown) => {
        if (stop.signal.aborted) return;
        const { code, message, retryable = true } = error as FabricError;
        if (retryable) return this.broken(message);
        this.say({ op: "gone", sub, code, message });
      },
    );
  }

  private async stream(frame: Open, sub: number, stop: AbortController): Promise<void> {
    const request = { query: { after: frame.after, view: frame.view, live: "sse" }, signal: stop.signal };
    let silence: ReturnType<typeof setTimeout> | undefined;
    const listen = (ms: number, code: number): void => {
      clearTimeout(silence);
      silence = setTimeout(() => this.broken("silence", code), ms);
    };
    const parser = new SseParser();
    try {
      listen(FIRST_MS, UNHEARD);
      const response = await this.taken(() => this.http.send("GET", path(frame, "/events"), request, "text/event-stream"));
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        listen(SILENCE_MS, 1006);
        for (const { event, data } of parser.push(value)) {
          const said = JSON.parse(data) as FabricEvent;
          if (event === "message") {
            this.say({ op: "events", sub, events: [said] });
          } else {
            this.say({ ...said, op: event, sub } as unknown as GatewayFrame);
          }
        }
      }
    } finally {
      clearTimeout(silence);
    }
  }

  private async poll(frame: Open, sub: number, stop: AbortController): Promise<void> {
    let after: After = frame.after;
    let live = false;
    let held = false;
    for (;;) {
      held ||= await hold(stop.signal);
      const query = { after, view: frame.view, live: "long-poll", timeout_ms: held ? POLL_MS : 0 };
      const page = await this.ask<{ events: FabricEvent[]; next: Offset; head: Offset }>("GET", path(frame, "/events"), {
        query,
        signal: stop.signal,
      });
      if (stop.signal.aborted) return;
      this.say({ op: "events", sub, events: page.events });
      after = page.next ?? after;
      if (!live && (page.events.length === 0 || after >= page.head)) {
        live = true;
        this.say({ op: "live", sub });
      }
      // A page is read from the log: there are no holes in it.
      if (page.next) this.say({ op: "mark", sub, offset: page.next });
      if (live && !held) await wait(ASK_MS);
    }
  }

  private failed(error: unknown, id?: number): void {
    if (!(error instanceof FabricError) || error.code === "unreachable") return this.broken(`${error}`);
    const { code, message, retryable, hint, facts } = error;
    this.say({ ...facts, op: "error", code, message, retryable, hint, id } as Refusal);
    if (id !== undefined) return;
    // A hello that was refused, or a token that has expired: as on the socket, the connection ends with it.
    this.broken(message, retryable ? 1011 : code === EXPIRED ? TOKEN_EXPIRED : 4501);
  }

  private broken(reason: string, code = 1006): void {
    if (this.all.signal.aborted) return;
    this.close();
    this.events.closed(code, reason);
  }

  private ask<Result>(method: string, path: string, request?: HttpRequest): Promise<Result> {
    return this.taken(() => this.http.json<Result>(method, path, { signal: this.all.signal, ...request }));
  }

  private async taken<Result>(ask: () => Promise<Result>): Promise<Result> {
    for (let tries = 0; ; tries += 1) {
      try {
        return await ask();
      } catch (error) {
        const { code } = error as FabricError;
        if (code === EXPIRED) this.failed(error);
        if (tries === AGAIN || code !== "unreachable") throw error;
        await wait(Math.random() * (AGAIN_MS << tries));
      }
    }
  }

  private say(frame: GatewayFrame): void {
    if (!this.all.signal.aborted) this.events.frame(frame);
  }
}

const path = (frame: { session: string }, rest: string): string => `/v1/sessions/${encodeURIComponent(frame.session)}${rest}`;

const wait = (ms: number): Promise<unknown> => new Promise((next) => setTimeout(next, ms));

/** Hold one of the connections that a browser's tabs have, until the signal; false: others hold them. */
async function hold(signal: AbortSignal): Promise<boolean> {
  const locks = globalThis.document && (navigator.locks as LockManager | undefined);
  for (let n = HELD; locks && n--; ) {
    const got = await new Promise((done) =>
      locks
        .request(`session-fabric ${n}`, { ifAvailable: true }, (lock) => {
          done(lock);
          return lock && !signal.aborted && new Promise((over) => signal.addEventListener("abort", over));
        })
        .catch(done), // not to be had in a page like this one
    );
    if (got) return true;
  }
  return !locks;
}
