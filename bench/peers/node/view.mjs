// One viewer with a peer's own client library: `view.mjs CLIENT PORT TOPIC` says `ready`, and when its input ends the
// milliseconds that each text took, from the call that wrote it until the library has handed it to the page.
import WebSocket from "ws";

// Node 20 has none of its own, which pages have.
globalThis.WebSocket ??= WebSocket;

const [client, port, topic] = process.argv.slice(2);
const took = [];
const heard = (text) => {
  const now = performance.timeOrigin + performance.now();
  for (const [, at] of text.matchAll(/<~#>([0-9a-f]{16})/g)) took.push(now - Number(BigInt(`0x${at}`)) / 1e6);
};
const ready = () => console.log("ready");

const clients = {
  async fabric() {
    const { connect } = await import("../../../gateway/src/session_fabric_gateway/demo/session-fabric.js");
    const page = connect({ url: `http://127.0.0.1:${port}`, token: "user:viewer", webSocket: WebSocket });
    const handlers = { events: (events) => events.forEach(({ body }) => heard(body.delta ?? "")), live: ready, opened() {} };
    page.session(topic).open({ ...handlers, ended: (error) => { throw error; } }, { after: "tail" });
  },
  async nats() {
    const connection = await (await import("@nats-io/nats-core")).wsconnect({ servers: `ws://127.0.0.1:${port}` });
    connection.subscribe(`t.${topic}`, { callback: (_, message) => heard(message.string()) });
    await connection.flush();
    ready();
  },
  async jetstream() {
    const connection = await (await import("@nats-io/nats-core")).wsconnect({ servers: `ws://127.0.0.1:${port}` });
    const { jetstream } = await import("@nats-io/jetstream");
    const ordered = { filter_subjects: `t.${topic}`, deliver_policy: "new" };
    const consumer = await jetstream(connection).consumers.get("peers", ordered);
    await consumer.consume({ callback: (message) => heard(message.string()) });
    await connection.flush();
    ready();
  },
  async durable() {
    const { stream } = await import("@durable-streams/client");
    const url = `http://127.0.0.1:${port}/v1/stream/${topic}`;
    const following = await stream({ url, offset: "now", live: "sse", json: true });
    following.subscribeJson(async ({ items }) => heard(items.join("")));
    setTimeout(ready, 500); // it does not say when it listens
  },
  async workerd() {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/${topic}?as=viewer`);
    socket.onmessage = ({ data }) => (JSON.parse(data).live ? ready() : heard(JSON.parse(data).text));
  },
  async socketio() {
    const { io } = await import("socket.io-client");
    const socket = io(`http://127.0.0.1:${port}`, { transports: ["websocket"] });
    socket.on("text", heard);
    socket.on("connect", () => socket.emit("join", topic, ready));
  },
  async mqtt() {
    const { connectAsync } = (await import("mqtt")).default;
    const options = { clientId: `view-${topic}`, clean: false };
    const connection = await connectAsync(`ws://127.0.0.1:${port}/mqtt`, options);
    connection.on("message", (_, text) => heard(text.toString()));
    await connection.subscribeAsync(topic, { qos: 1 });
    ready();
  },
  async resumable() {
    const answer = await fetch(`http://127.0.0.1:${port}/${topic}`);
    ready();
    let last = "";
    for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
      const whole = last + text;
      heard(whole);
      last = whole.slice(whole.lastIndexOf("<~#>")).length < 20 ? whole.slice(whole.lastIndexOf("<~#>")) : "";
    }
  },
};

process.stdin.resume().on("end", () => {
  console.log(JSON.stringify(took));
  process.exit(0);
});
await clients[client]();
