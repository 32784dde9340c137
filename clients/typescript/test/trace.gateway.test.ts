// With OpenTelemetry's own packages: what a page does and what is stored of it are one trace.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { context, propagation, trace } from "@opentelemetry/api";
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { type Client, type ConnectOptions, connect, httpTransports, newId, type Trace, webSocketTransport } from "../src/index.js";
import { state } from "../src/life/index.js";
import { served } from "./dev.js";

const BIN = new URL("../../../../../.venv/bin/", import.meta.url);
// Reads what is stored of a session: each event's id and trace.
const STORED = `
import asyncio, json, sys
from session_fabric import Fabric
async def main():
    async with Fabric.connect(sys.argv[1], tenant="default", participant="operator:reader") as fabric:
        events = (await fabric.session(sys.argv[2]).history(limit=1000)).events
        print(json.dumps({event.id: event.trace and event.trace.headers for event in events}))
asyncio.run(main())
`;

const kept = new InMemorySpanExporter();
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(kept)] });
provider.register();
const { server, closes } = await served();
closes.push(() => provider.shutdown());

/** As the documentation has it. */
function current(): Trace {
  const carrier = {};
  propagation.inject(context.active(), carrier);
  return carrier;
}

function device(options: ConnectOptions): Client {
  const client = connect({ url: server.url, token: server.token, ...options });
  closes.push(() => client.close());
  return client;
}

function stored(session: string): Record<string, Record<string, string> | null> {
  const env = { ...process.env, SESSION_FABRIC_NATS_CREDENTIALS: server.nats_credentials };
  const said = execFileSync(fileURLToPath(new URL("python", BIN)), ["-c", STORED, server.nats, session], { env, encoding: "utf8" });
  return JSON.parse(said) as Record<string, Record<string, string> | null>;
}

const ways = { websocket: [webSocketTransport()], "long-poll": [httpTransports()[1]!] };

for (const [name, transports] of Object.entries(ways)) {
  test(`by ${name}: an event carries the span in which it was appended, however late it goes out`, async () => {
    const session = newId("s");
    const client = device({ transports, trace: current });
    const tracer = trace.getTracer("a page");
    const parents: string[] = [];
    // Both are called at once: the second goes when the first has its answer.
    await Promise.all(
      ["e1", "e2"].map((id) =>
        tracer.startActiveSpan("a click", async (span) => {
          const { traceId, spanId } = span.spanContext();
          parents.push(`00-${traceId}-${spanId}-01`);
          await client.session(session).append({ type: "app.note" }, { id });
          span.end();
        }),
      ),
    );
    await client.session(session).append({ type: "app.note" }, { id: "e3" });
    const traces = stored(session);
    assert.deepEqual([traces["e1"]?.["traceparent"], traces["e2"]?.["traceparent"]], parents);
    assert.equal(traces["e3"], null);
  });

  test(`by ${name}: everything else is asked as before`, async () => {
    const client = device({ transports, trace: () => ({ traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`, baggage: "private" }) as Trace });
    const session = client.session(newId("s"));
    for await (const event of session.follow()) {
      assert.equal(event.type, "session.created");
      break;
    }
    assert.equal((await state(session).put("plan", { a: 1 })).revision > 0, true);
    await client.refresh(server.token);
    assert.equal((await session.record()).session, session.name);
  });
}
