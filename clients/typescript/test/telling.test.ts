// What is told of runs, by the golden transcripts: however it came, it is the same in the end.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { readUIMessageStream, type UIMessage, type UIMessageChunk } from "ai";
import { assemble, Chunker } from "../src/ai-sdk/index.js";
import { type RunNow, Teller, textOf, type Told } from "../src/feed/index.js";
import { Fold } from "../src/fold/fold.js";
import { RequestFold } from "../src/life/asked.js";
import type { FabricEvent } from "../src/words.js";

const folder = new URL("../../../../../tests/golden/", import.meta.url);
const transcripts = readdirSync(folder).filter((name) => name.endsWith(".jsonl"));

/** A session that is folded event by event, as a feed does. */
class Session {
  readonly fold = new Fold();
  private readonly asked = new RequestFold();
  private readonly called = new Set<unknown>();

  add(event: FabricEvent): void {
    this.fold.add(event);
    this.asked.add(event);
    if (event.type === "TOOL_CALL_END") this.called.add(event.body["toolCallId"]);
  }

  now(run: string): RunNow {
    return {
      run: this.fold.runs.get(run),
      messages: this.fold.messages.filter((message) => message.run === run),
      asked: this.asked.all.filter(({ request }) => request.run === run),
      passing: [],
      isCalled: (call) => this.called.has(call),
    };
  }
}

/** What is told of a run while the events come. */
function told(events: readonly FabricEvent[], run: string): Told[][] {
  const session = new Session();
  const teller = new Teller("s1", run);
  return events.map((event) => (session.add(event), teller.tell(session.now(run))));
}

const runsOf = (events: readonly FabricEvent[]): string[] => [...events.reduce((session, event) => (session.add(event), session), new Session()).fold.runs.keys()];

/** AG-UI's messages as its events make them. */
function made(events: readonly Told[]): Map<string, string> {
  const texts = new Map<string, string>();
  for (const event of events) {
    if (event.type === "RESET") texts.clear();
    if (event.type === "TEXT_MESSAGE_CONTENT") texts.set(String(event["messageId"]), (texts.get(String(event["messageId"])) ?? "") + event["delta"]);
  }
  return texts;
}

async function read(chunks: readonly UIMessageChunk[]): Promise<UIMessage | undefined> {
  let last: UIMessage | undefined;
  const stream = new ReadableStream<UIMessageChunk>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
  for await (const message of readUIMessageStream({ stream, onError: () => undefined })) last = message;
  return last;
}

const known = ({ undefined: _, ...fields }: Record<string, unknown>): object => Object.fromEntries(Object.entries(fields).filter(([name, value]) => value !== undefined && name !== "rawInput" && name !== "id"));

for (const name of transcripts) {
  const lines = readFileSync(new URL(name, folder), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  const all: FabricEvent[] = lines.flatMap((line) => line.event ?? []);

  for (const run of runsOf(all)) {
    // Behind a run's end nothing is told: what comes then (a redaction) is seen by whoever reads anew.
    const over = all.findIndex((event) => event.run === run && /^RUN_(FINISHED|ERROR)$/.test(event.type));
    const events = over < 0 ? all : all.slice(0, over + 1);
    const end = events.reduce((session, event) => (session.add(event), session), new Session());
    const texts = new Map(end.now(run).messages.map((message) => [message.id, textOf(message.content)] as const).filter(([, text]) => text !== ""));

    test(`${name}: ${run} is told as it is, piece by piece, at once, twice over, and with an event late`, () => {
      const until = over < 0 ? events.length : over;
      const late = (missed: number): FabricEvent[] => [...events.slice(0, missed), ...events.slice(missed + 1, until), ...events.slice(missed)];
      const orders = [events, [...events, ...events], ...events.slice(0, until).map((_, missed) => late(missed))];
      for (const order of orders) assert.deepEqual(new Map([...made(told(order, run).flat())].sort()), new Map([...texts].sort()));
      assert.deepEqual(new Map([...made(new Teller("s1", run).tell(end.now(run)))].sort()), new Map([...texts].sort()));
    });

    test(`${name}: of ${run} nothing is told before its beginning or behind its end, and nothing twice`, () => {
      const all = told(events, run).flat().map(({ type }) => type);
      assert.ok(all.length === 0 || all[0] === "RUN_STARTED");
      assert.ok(all.filter((type) => type === "RUN_STARTED").length <= 1);
      const over = all.findIndex((type) => type === "RUN_FINISHED" || type === "RUN_ERROR");
      assert.ok(over < 0 || over === all.length - 1);
    });

    test(`${name}: the AI SDK reads the chunks of ${run} as the parts that we make of it`, async () => {
      const chunker = new Chunker();
      const chunks = told(events, run).flatMap((batch) => chunker.write(batch));
      const message = await read(chunks.filter(({ type }) => type !== "error") as UIMessageChunk[]);
      // A step that nothing follows, and an input that is not complete, are shown with what comes next.
      const shown = (parts: readonly unknown[]): object[] => (parts as Record<string, unknown>[]).filter(({ type }, n) => type !== "step-start" || n < parts.length - 1).map(known);
      assert.deepEqual(shown(message?.parts ?? []), shown(assemble(chunks)));
    });
  }
}
