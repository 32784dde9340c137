// Socket.IO as its documentation sets it up for several servers and for recovery: `socketio.mjs REDIS_PORT [stored]`.
// What `emit` calls in the adapter sends the packet to Redis and waits for its answer (XADD), but `emit` itself does not:
// an acknowledgement behind it says that the server has the packet. With `stored` the adapter is called as `emit` does it,
// and waited for: the acknowledgement says that Redis has it.
// perMessageDeflate is off by default; `maxLen` is over what a viewer misses in these measurements (10,000 by default).
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const stored = process.argv[3] === "stored";
const EVENT = 2; // socket.io-parser, PacketType
const redis = createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
await redis.connect();
const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(redis, { maxLen: 100_000, readCount: 1000 }),
  connectionStateRecovery: { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true },
});

io.on("connection", (socket) => {
  socket.on("join", (topic, done) => {
    socket.join(topic);
    done();
  });
  socket.on("append", async (topic, text, done) => {
    if (stored) {
      const packet = { type: EVENT, nsp: "/", data: ["text", text] };
      await io.of("/").adapter.broadcast(packet, { rooms: new Set([topic]), except: new Set(), flags: {} });
    } else {
      io.to(topic).emit("text", text);
    }
    done();
  });
  // An agent's connection: who looks on is told when it is gone.
  socket.on("write", (topic, done) => {
    socket.on("disconnect", () => io.to(topic).emit("gone", topic));
    done();
  });
});

http.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: http.address().port })));
