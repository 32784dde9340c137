// Two devices on the TypeScript client as it is published, one by WebSocket, one by server-sent events: each says when it
// is live, and the number of every note that comes, a line each. Ends with its input.
import { connect, httpTransports, webSocketTransport } from "../../../clients/typescript/dist/index.js";

const given = JSON.parse(process.argv[2]);
const ways = { websocket: webSocketTransport(), sse: httpTransports()[0] };

function say(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

for (const [way, transport] of Object.entries(ways)) {
  const session = connect({ url: given.url, transports: [transport] }).session(given.session);
  session.open({
    events: (events) => {
      for (const { type, body } of events) if (type === "app.note") say({ way, n: body.n });
    },
    live: () => say({ way, live: true }),
  });
}

process.stdin.on("end", () => process.exit(0)).resume();
