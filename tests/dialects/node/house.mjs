// What tests of every dialect need: the gateway's own API, and a proxy that cuts connections.
import net from "node:net";

export const GATEWAY = process.env.GATEWAY_URL;
export const TOKENS = { ada: process.env.TOKEN_ADA, bob: process.env.TOKEN_BOB, reader: process.env.TOKEN_READER };

export const bearer = (who = "ada") => ({ Authorization: `Bearer ${TOKENS[who]}` });

let count = 0;
/** A name that no other test has. */
export const fresh = (what = "chat") => `${what}-${process.pid}-${Date.now()}-${++count}`;

export async function api(method, path, body, who = "ada") {
  const response = await fetch(`${GATEWAY}/v1${path}`, {
    method,
    headers: { "content-type": "application/json", ...bearer(who) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : null };
}

/** Lets an agent that holds go on. */
export const go = (session) => api("POST", `/sessions/${session}/events`, { body: { type: "app.go" } });

const listed = (what) => async (session) => (await api("GET", `/sessions/${session}/${what}`)).body[what] ?? [];
export const messagesOf = listed("messages");
export const runsOf = listed("runs");
export const requestsOf = listed("requests");

export const answer = (session, request, body) => api("POST", `/sessions/${session}/requests/${request}/answer`, { body });

export const ticket = async (who = "ada") => (await api("POST", "/tickets", {}, who)).body.ticket;

/** Waits until a condition is true; fails with what was last seen. */
export async function eventually(condition, what = "it", within = 10_000) {
  const until = Date.now() + within;
  for (;;) {
    const seen = await condition();
    if (seen) return seen;
    if (Date.now() > until) throw new Error(`${what} has not come about; last seen: ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A proxy before the gateway; `cut` drops what is open, as a network does. */
export async function proxy() {
  const { hostname, port } = new URL(GATEWAY);
  const open = new Set();
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(port), hostname);
    const pair = [client, upstream];
    open.add(pair);
    const end = () => {
      pair.forEach((socket) => socket.destroy());
      open.delete(pair);
    };
    client.pipe(upstream);
    upstream.pipe(client);
    for (const socket of pair) socket.on("error", end).on("close", end);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut: () => [...open].forEach(([client, upstream]) => (client.resetAndDestroy(), upstream.destroy())),
    close: () => new Promise((resolve) => (open.forEach((pair) => pair.forEach((s) => s.destroy())), server.close(resolve))),
  };
}
