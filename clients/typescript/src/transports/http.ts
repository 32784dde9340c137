import { FabricError } from "../errors.js";
import { Http, type HttpRequest } from "../http.js";
import type { After, ClientFrame, FabricEvent, GatewayFrame, Offset, SessionRecord } from "../words.js";
import type { Trace } from "../trace.js";
import { SseParser } from "./sse.js";
import type { Transport, Wire, WireEvents } from "./transport.js";

/** A stream that says nothing at all for so long is dead; the gateway's comments count as words. */
const SILENCE_MS = 60_000;
const POLL_MS = 25_000;

type Open = Extract<ClientFrame, { op: "open" }>;
type Other = Extract<ClientFrame, { via?: unknown }> & Record<string, unknown>;
type Way = "sse" | "long-poll";

/**
 * What to do where WebSockets are blocked: requests up, server-sent events or long polls down, as the same frames.
 *
 * What HTTP has no words for does not go this way: signals, presence of our own, watching documents, who we are, `view`.
 */
export function httpTransports(): Transport[] {
  return (["sse", "long-poll"] as const).map((way) => ({
    name: way,
    available: () => typeof fetch === "function" && (way === "long-poll" || typeof TextDecoderStream === "function"),
    dial: (target, events) => new HttpWire(way, new Http(target.url, target.token), events),
  }));
}

class HttpWire implements Wire {
  private subs = 0;
  private readonly reading = new Map<number, AbortController>();
  private readonly all = new AbortController();

  constructor(
    private readonly way: Way,
    private readonly http: Http,
    private readonly events: WireEvents,
  ) {
    queueMicrotask(() => this.all.signal.aborted || events.opened());
  }

  close(): void {
    this.all.abort();
    for (const one of this.reading.values()) one.abort();
  }

  send(frame: ClientFrame): void {
    if (this.all.signal.aborted) return;
    this.carry(frame).catch((error: unknown) => this.failed(error, "id" in frame ? frame.id : undefined));
  }

  private async carry({ trace, ...sent }: ClientFrame): Promise<void> {
    const frame = sent as ClientFrame;
    const id = ("id" in frame ? frame.id : undefined) ?? 0;
    switch (frame.op) {
      case "hello":
        return this.hello();
      case "open":
        return this.open(frame, id);
      case "ping":
        await this.ask("GET", "/healthz");
        return this.say({ op: "pong", id });
      case "close":
        this.reading.get(frame.sub)?.abort();
        return this.say({ op: "closed", id, sub: frame.sub });
      case "refresh":
        return this.say({ op: "ok", id });
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
    const answer = await this.http.json<object>(method, path, { ...given, signal: this.all.signal, trace });
    this.say({ ...answer, op: "ok", id });
  }

  /** Find out whether we are let in; the answer names nobody. */
  private async hello(): Promise<void> {
    await this.ask("GET", "/v1/sessions?limit=1");
    this.say({ op: "welcome", connection: this.way, participant: "", tenant: "", heartbeat_s: 25, limits: {} });
  }

  private async open(frame: Open, id: number): Promise<void> {
    const record = await this.ask<SessionRecord>("POST", "/v1/sessions", { session: frame.session });
    const { head = null } = record.head ? record : await this.ask<SessionRecord>("GET", path(frame, ""));
    const sub = (this.subs += 1);
    const stop = new AbortController();
    this.reading.set(sub, stop);
    this.say({ op: "opened", id, sub, head, session: record });
    const reader = this.way === "sse" ? this.stream(frame, sub, head, stop) : this.poll(frame, sub, stop);
    // An end that we did not ask for breaks the connection: the next one resumes.
    reader.then(
      () => stop.signal.aborted || this.broken("the stream ended"),
      (error: unknown) => stop.signal.aborted || this.readingFailed(error, sub),
    );
  }

  private async stream(frame: Open, sub: number, head: Offset | null, stop: AbortController): Promise<void> {
    const live = new Live(head, frame.after, () => this.say({ op: "live", sub }));
    const request = { query: { after: frame.after, live: "sse" }, signal: stop.signal };
    const response = await this.http.send("GET", path(frame, "/events"), request, "text/event-stream");
    if (response.body === null) throw new Error("no stream");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new SseParser();
    let silence: ReturnType<typeof setTimeout> | undefined;
    try {
      for (;;) {
        clearTimeout(silence);
        silence = setTimeout(() => void reader.cancel(), SILENCE_MS);
        const { done, value } = await reader.read();
        if (done) return;
        for (const { event, data } of parser.push(value)) {
          const said = JSON.parse(data) as Record<string, unknown>;
          if (event === "message") {
            const one = said as unknown as FabricEvent;
            this.say({ op: "events", sub, events: [one] });
            live.reached(one.offset);
          } else {
            this.say({ ...said, op: event, sub } as unknown as GatewayFrame);
            if (event === "mark") live.now();
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
    while (!stop.signal.aborted) {
      const query = { after, live: "long-poll", timeout_ms: POLL_MS };
      const page = await this.http.json<{ events: FabricEvent[]; next: Offset; head: Offset }>("GET", path(frame, "/events"), {
        query,
        signal: stop.signal,
      });
      if (stop.signal.aborted) return;
      if (page.events.length > 0) this.say({ op: "events", sub, events: page.events });
      after = page.next ?? after;
      if (!live && (page.events.length === 0 || after >= page.head)) {
        live = true;
        this.say({ op: "live", sub });
      }
      // A page is read from the log: there are no holes in it.
      if (page.next) this.say({ op: "mark", sub, offset: page.next });
    }
  }

  private readingFailed(error: unknown, sub: number): void {
    if (error instanceof FabricError && !error.retryable) {
      return this.say({ op: "gone", sub, code: error.code, message: error.message });
    }
    this.broken(String(error));
  }

  private failed(error: unknown, id: number | undefined): void {
    if (this.all.signal.aborted) return;
    if (!(error instanceof FabricError) || error.code === "unreachable") return this.broken(String(error));
    const { code, message, retryable, hint, facts } = error;
    this.say({ ...facts, op: "error", code, message, retryable, hint, ...(id === undefined ? {} : { id }) });
    if (id !== undefined) return;
    // A hello that was refused: as on the socket, the connection ends with it.
    this.close();
    this.events.closed(retryable ? 1011 : 4501, message);
  }

  private broken(reason: string): void {
    if (this.all.signal.aborted) return;
    this.close();
    this.events.closed(1006, reason);
  }

  private ask<Result>(method: string, path: string, body?: unknown): Promise<Result> {
    return this.http.json<Result>(method, path, { body, signal: this.all.signal });
  }

  private say(frame: GatewayFrame): void {
    if (!this.all.signal.aborted) this.events.frame(frame);
  }
}

/** Says `live` once: at the head that was there when we opened, or at the first mark. */
class Live {
  private said = false;

  constructor(
    private readonly head: Offset | null,
    after: After,
    private readonly say: () => void,
  ) {
    if (head === null || after === "tail" || (after !== "start" && after >= head)) this.now();
  }

  reached(offset: Offset): void {
    if (this.head !== null && offset >= this.head) this.now();
  }

  now(): void {
    if (this.said) return;
    this.said = true;
    this.say();
  }
}

const path = (frame: { session: string }, rest: string): string => `/v1/sessions/${encodeURIComponent(frame.session)}${rest}`;
