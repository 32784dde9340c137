// The reference server of Durable Streams as its README starts it: in memory, or with a directory on its file store.
import { DurableStreamTestServer } from "@durable-streams/server";

const dataDir = process.argv[2];
const server = new DurableStreamTestServer({ port: 0, host: "127.0.0.1", ...(dataDir && { dataDir }) });
console.log(JSON.stringify({ port: Number(new URL(await server.start()).port) }));
