// A session as a Durable Object, as Cloudflare's documentation advises: WebSockets by the hibernation API, the log in
// the object's SQLite. What is sent waits for what was stored (the output gate). `/TOPIC?as=viewer|agent&after=N`.
import { DurableObject } from "cloudflare:workers";

export class Session extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL)");
  }

  async fetch(request) {
    const asked = new URL(request.url).searchParams;
    const [client, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server, [asked.get("as")]);
    if (asked.has("after")) {
      const missed = this.ctx.storage.sql.exec("SELECT id, text FROM log WHERE id > ? ORDER BY id", Number(asked.get("after")));
      for (const { id, text } of missed) server.send(`{"id":${id},"text":${JSON.stringify(text)}}`);
    }
    server.send('{"live":true}');
    return new Response(null, { status: 101, webSocket: client });
  }

  webSocketMessage(socket, text) {
    const { id } = this.ctx.storage.sql.exec("INSERT INTO log (text) VALUES (?) RETURNING id", text).one();
    this.tell(`{"id":${id},"text":${JSON.stringify(text)}}`);
    socket.send('{"ok":1}');
  }

  webSocketClose(socket) {
    if (this.ctx.getTags(socket).includes("agent")) this.tell('{"gone":true}');
  }

  webSocketError(socket) {
    this.webSocketClose(socket);
  }

  tell(frame) {
    for (const viewer of this.ctx.getWebSockets("viewer")) viewer.send(frame);
  }
}

export default {
  fetch: (request, { sessions }) => sessions.get(sessions.idFromName(new URL(request.url).pathname)).fetch(request),
};
