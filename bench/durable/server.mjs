// The reference server of Durable Streams with its file store, as its README starts it; prints its port.
import { DurableStreamTestServer } from "@durable-streams/server";

const server = new DurableStreamTestServer({ port: 0, host: "127.0.0.1", dataDir: process.argv[2] });
const url = await server.start();
console.log(JSON.stringify({ url }));
