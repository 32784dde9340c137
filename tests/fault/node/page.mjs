// A browser's stand-in on the TypeScript client as it is published: two devices, one by WebSocket (while that works), one
// by server-sent events alone. Each follows every session, writes notes and answers tools. `browser.py` is the same in Python.
import { connect, FabricError, httpTransports, webSocketTransport } from "../../../clients/typescript/dist/index.js";
import { Journal, Pipe, stepClock } from "./pipe.mjs";

const NOTE_MS = 500;
const READ_MS = 60_000;
// So many answers are waited for at the most, as in `browser.py`.
const WAITING = 20;
const DEVICES = [() => [webSocketTransport(), ...httpTransports()], httpTransports];

const given = JSON.parse(process.argv[2]);
const journal = new Journal(given.directory, given.who);
const faults = [];

/** Notes what goes over a device's wire beside events: from where it reads, which holes are filled, up to where all is there. */
function tapped(transport, readers) {
  const dial = (target, events) => {
    const asked = new Map();
    const subs = new Map();
    const heard = (frame) => {
      if (frame.op === "opened") subs.set(frame.sub, asked.get(frame.id));
      else if (frame.op === "rewind") readers.get(subs.get(frame.sub))?.note("rewound", { to: frame.to });
      else if (frame.op === "mark") readers.get(subs.get(frame.sub))?.marked(frame.offset);
      events.frame(frame);
    };
    const wire = transport.dial(target, { ...events, frame: heard });
    const send = (frame) => {
      if (frame.op === "open") {
        asked.set(frame.id, frame.session);
        readers.get(frame.session)?.note("opened", { after: frame.after, once: true });
      }
      wire.send(frame);
    };
    return { send, close: (code, reason) => wire.close(code, reason) };
  };
  return { name: transport.name, available: () => transport.available(), dial };
}

/** One session as one device reads and writes it. */
class Reader {
  mark = "";
  waiting = 0;
  #calls = 0;

  constructor(client, name, number) {
    this.session = client.session(name);
    this.name = name;
    this.who = `${given.who}/${name}-${number}`;
    this.first = number === 0;
    this.participant = given.participant;
  }

  note(kind, more) {
    journal.note(kind, this.who, { reader: this.who, session: this.name, ...more });
  }

  /** By then the loop has had what was there before: it waits for nothing but events. */
  marked(offset) {
    setImmediate(() => {
      this.note("marked", { offset });
      if (offset > this.mark) this.mark = offset;
    });
  }

  async read() {
    try {
      for await (const event of this.session.follow({ after: "start", ...(this.first ? { presence: {} } : {}) })) {
        this.note("got", { events: [noted(event)] });
        if (event.type === "tool.requested" && this.session.live) void this.answer(event.id);
      }
    } catch (error) {
      faults.push(`${this.who} ended: ${error}`);
    }
  }

  append(id) {
    const call = this.#invoked("note", id);
    this.#settled(call, this.session.append({ type: "app.note", value: id }, { id }), () => faults.push(`${id} was refused`));
  }

  /** Answer a tool's request; others do too. */
  answer(request) {
    const event = `${request}-${this.who.replaceAll("/", "-")}`;
    const call = this.#invoked("answer", event, request);
    const asked = { request, body: event, event, device: this.session.client.device };
    this.#settled(call, this.session.ask("answer", asked, "POST /requests/{request}/answer"));
  }

  #invoked(what, id, about = null) {
    const call = ++this.#calls;
    journal.note("invoked", this.who, { call, what, id, session: this.name, participant: this.participant, about });
    return call;
  }

  async #settled(call, asked, refused = () => undefined) {
    const done = (outcome, more) => journal.note("done", this.who, { call, outcome, ...more });
    this.waiting += 1;
    try {
      done("ok", { offset: (await asked).offset });
    } catch (error) {
      if (!(error instanceof FabricError)) throw error;
      const known = !error.retryable && error.code !== "closed";
      done(known ? "refused" : "unknown", { winner: known ? error.facts.by : undefined, code: error.code });
      refused();
    } finally {
      this.waiting -= 1;
    }
  }
}

function noted({ offset, id = null, type, actor, run = null, at = null, ts = 0, body }) {
  return { offset, id, type, actor, run, at, ts, body };
}

/** Wait until something holds; go on without after so long. */
async function eventually(holds) {
  const deadline = process.hrtime.bigint() + BigInt(READ_MS) * 1_000_000n;
  while (!holds() && process.hrtime.bigint() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
}

const pipe = new Pipe((what) => "clock" in what && stepClock(what.clock));
const devices = DEVICES.map((transports, number) => {
  const readers = new Map();
  const client = connect({
    url: given.url,
    token: given.token,
    device: `${given.host}-${number}`,
    transports: transports().map((one) => tapped(one, readers)),
  });
  for (const name of given.sessions) readers.set(name, new Reader(client, name, number));
  return { client, readers };
});
const readers = devices.flatMap((device) => [...device.readers.values()]);
for (const reader of readers) void reader.read();
pipe.say({ ready: true });

let quiet = false;
let count = 0;
function write() {
  if (quiet) return;
  const reader = readers[Math.floor(Math.random() * readers.length)];
  if (reader.waiting < WAITING) reader.append(`note-${given.who}-${++count}`);
  setTimeout(write, (NOTE_MS / 2) * (0.5 + Math.random()));
}
setTimeout(write, NOTE_MS);

await pipe.until("quiet");
quiet = true;
await eventually(() => readers.every((reader) => reader.waiting === 0));
for (const { who, waiting } of readers) if (waiting > 0) faults.push(`${who}: ${waiting} calls have no answer`);
pipe.say({ quiet: true });
const upto = await pipe.until("upto");
await eventually(() => readers.every((reader) => reader.mark >= upto[reader.name]));
const [{ client }] = devices;
pipe.say({
  read: Object.fromEntries(readers.map((reader) => [reader.who, [reader.name, reader.mark]])),
  // Who comes by requests alone is not shown (clients/typescript, README).
  shown: client.status.transport === "websocket" ? given.sessions.map((name) => [name, client.device]) : [],
  faults,
});
await pipe.until("leave");
process.exit(0);
