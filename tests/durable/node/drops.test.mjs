// A connection that drops over an append: what the official client makes of it, and what ours does.
// `answer`: the append has arrived, and its answer is lost. `request`: it has not arrived whole.
import net from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client";
import { connect } from "../../../clients/typescript/src/index.ts";
import { httpTransports } from "../../../clients/typescript/src/transports/http.ts";
import { webSocketTransport } from "../../../clients/typescript/src/transports/websocket.ts";

const gateway = process.env.STREAMS_URL;
const token = process.env.STREAMS_TOKEN;
const headers = { Authorization: `Bearer ${token}` };
// What is appended is longer than anything else that a client says, which is how the proxy knows it.
const PADDING = "x".repeat(32_000);

/** Passes on what is said, and cuts a connection over the next append once it is told how. */
class Cutter {
  async open() {
    const { hostname, port } = new URL(gateway);
    this.server = net.createServer((client) => {
      const upstream = net.connect(Number(port), hostname);
      const cut = () => [client, upstream].forEach((socket) => socket.destroy());
      let said = 0;
      client.on("data", (chunk) => {
        said = chunk.length < 1000 && said === 0 ? 0 : said + chunk.length;
        if (this.fault === "request" && said > PADDING.length / 2) return this.done(cut);
        upstream.write(chunk);
      });
      upstream.on("data", (chunk) => {
        if (this.fault === "answer" && said > PADDING.length) return this.done(cut);
        if (said > PADDING.length) said = 0;
        client.write(chunk);
      });
      for (const socket of [client, upstream]) socket.on("error", cut).on("close", cut);
    });
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  arm(fault) {
    this.fault = fault;
    this.cuts = 0;
  }

  done(cut) {
    this.fault = undefined;
    this.cuts += 1;
    cut();
  }
}

const proxy = new Cutter();
beforeAll(() => proxy.open());
afterAll(() => proxy.server.close());

const numbers = [0, 1, 2, 3];
const made = async () => {
  const url = `${proxy.url}/v1/stream/clients/drops-${crypto.randomUUID()}`;
  return [url, await DurableStream.create({ url, headers, contentType: "application/json" })];
};
const stored = async (url) => (await (await stream({ url, headers, live: false })).json()).map((item) => item.n);

// Theirs is theirs to mend: what is pinned here is what docs/durable-streams.md says of it.
const THEIRS = {
  answer: { append: [0, 1, 1, 2, 3], producer: [0, 1, 2, 3] },
  request: { append: [0, 1, 2, 3], producer: [0] },
};

describe.each(Object.keys(THEIRS))("%s", (fault) => {
  test("append() of the official client stores twice what had arrived", async () => {
    const [url, handle] = await made();
    for (const n of numbers) {
      if (n === 1) proxy.arm(fault);
      await handle.append(JSON.stringify({ n, PADDING }));
    }
    expect(proxy.cuts).toBe(1);
    expect(await stored(url)).toEqual(THEIRS[fault].append);
  });

  test("the official client's idempotent producer loses what had not arrived, and all that follows", async () => {
    const [url, handle] = await made();
    const errors = [];
    const producer = new IdempotentProducer(handle, "writer", { lingerMs: 0, onError: (error) => errors.push(error) });
    for (const n of numbers) {
      if (n === 1) proxy.arm(fault);
      producer.append(JSON.stringify({ n, PADDING }));
      await producer.flush().catch(() => {}); // told to `onError`
    }
    expect(proxy.cuts).toBe(1);
    expect(errors).not.toEqual([]);
    expect(await stored(url)).toEqual(THEIRS[fault].producer);
  });

  test.each([
    ["a socket", () => [webSocketTransport()]],
    ["requests", httpTransports],
  ])("our own client over %s neither doubles nor loses", async (_, transports) => {
    const client = connect({ url: proxy.url, token, transports: transports() });
    const session = client.session(`drops-${crypto.randomUUID()}`);
    const seen = [];
    const events = session.follow({ after: "start" });
    for (const n of numbers) {
      if (n === 1) proxy.arm(fault);
      await session.append({ type: "app.number", n, PADDING });
    }
    for await (const event of events) {
      if (event.type === "app.number") seen.push(event.body.n);
      if (event.body.n === numbers.at(-1)) break;
    }
    expect(proxy.cuts).toBe(1);
    expect(seen).toEqual(numbers);
    const answer = await fetch(`${gateway}/v1/sessions/${session.name}/events?limit=100`, { headers });
    const log = (await answer.json()).events.filter((event) => event.type === "app.number").map((event) => event.body.n);
    expect(log).toEqual(numbers);
    client.close();
  });
});
