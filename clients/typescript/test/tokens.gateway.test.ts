// Tokens that end while they are used, against a real gateway.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Client, connect, type FabricEvent, httpTransports, newId, type Status, webSocketTransport } from "../src/index.js";
import { eventually, served } from "./dev.js";

const { server, closes } = await served();

const USER = "user:ada";
const short = (): string => server.tokenFor(USER, undefined, 3);
const long = (): string => server.tokenFor(USER);
const note = (n: number) => ({ type: "app.note", n });
const numbers = (events: readonly FabricEvent[]) => events.filter(({ type }) => type === "app.note").map(({ body }) => body["n"]);

function device(token: string | (() => string), transports = ways.sse): Client {
  const client = connect({ url: server.url, token, transports });
  closes.push(() => client.close());
  return client;
}

/** Wait until the gateway does not take a token any more. */
const expired = (token: string) =>
  eventually(async () => (await fetch(`${server.url}/v1/sessions?limit=1`, { headers: { Authorization: `Bearer ${token}` } })).status === 401);

const ways = { websocket: [webSocketTransport()], sse: [httpTransports()[0]!], "long-poll": [httpTransports()[1]!] };

const refused = "The token has expired. Get a new one.";
const ENDED: Record<string, string> = { websocket: "The gateway closed for good (4410 token expired).", sse: refused, "long-poll": refused };

for (const [name, transports] of Object.entries(ways)) {
  test(`by ${name}: a chat goes on when its token has expired, by one that is asked for, and nothing is lost or doubled`, async () => {
    const given: string[] = [];
    const client = device(() => (given.push(given.length < 2 ? short() : long()), given.at(-1)!), transports);
    const session = client.session(newId("s"));
    const seen: FabricEvent[] = [];
    const reading = session.open({ events: (events) => seen.push(...events) });
    let written = 0;
    const ended = eventually(() => given.length > 2);
    while (given.length < 3) {
      await session.append(note((written += 1)));
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 20))]);
    }
    await session.append(note((written += 1)));
    await eventually(() => numbers(seen).length >= written);
    assert.deepEqual(numbers(seen), Array.from({ length: written }, (_, n) => n + 1));
    await eventually(() => reading.stage === "live" && client.status.phase === "live");
    assert.equal(client.status.error, null);
  });

  test(`by ${name}: who only writes, and has been away until the token was no good, gets a new one`, async () => {
    const given: string[] = [];
    const client = device(() => (given.push(given.length === 0 ? short() : long()), given.at(-1)!), transports);
    const session = client.session(newId("s"));
    await session.append(note(1));
    await expired(given[0]!);
    await session.append(note(2));
    const stored: FabricEvent[] = [];
    for await (const event of session.follow()) if (stored.push(event), numbers(stored).length === 2) break;
    assert.deepEqual(numbers(stored), [1, 2]);
  });

  test(`by ${name}: a token given with refresh is used from then on, for what is open, what is written and what is asked`, async () => {
    const first = short();
    const client = device(first, transports);
    const session = client.session(newId("s"));
    const seen: FabricEvent[] = [];
    session.open({ events: (events) => seen.push(...events) });
    await session.append(note(1));
    await client.refresh(long());
    await expired(first);
    await session.append(note(2));
    assert.equal((await session.record()).session, session.name);
    client["connection"].drop("the network is another one");
    await session.append(note(3));
    await eventually(() => numbers(seen).length >= 3);
    assert.deepEqual(numbers(seen), [1, 2, 3]);
  });

  test(`by ${name}: refresh with a token that is wrong is refused, and the one before is used on`, async () => {
    const client = device(long(), transports);
    const session = client.session(newId("s"));
    await session.append(note(1));
    await assert.rejects(client.refresh("nonsense"), (error: { code: string }) => error.code === "unauthenticated");
    await assert.rejects(client.refresh(server.tokenFor("user:bob")), { code: "forbidden" });
    await session.append(note(2));
    assert.equal((await session.record()).session, session.name);
  });

  test(`by ${name}: an expired token that nobody can renew ends it, and says so once`, async () => {
    const token = short();
    const client = device(token, transports);
    const session = client.session(newId("s"));
    await session.append(note(1));
    await expired(token);
    if (name === "websocket") await eventually(() => client.status.phase === "closed"); // the gateway looks now and then
    await assert.rejects(session.append(note(2)), { code: "token_expired", message: ENDED[name] });
    const { phase, error }: Status = client.status;
    assert.deepEqual([phase, error?.code], ["closed", "token_expired"]);
  });
}
