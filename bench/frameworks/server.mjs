// The AI SDK's own server side: one process of Node that streams what it has to say, and keeps nothing. `server DIRECTORY`
import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { createUIMessageStream, pipeUIMessageStreamToResponse } from "ai";

const EVERY_MS = Number(process.env.EVERY_MS);
const TYPES = { html: "text/html", js: "text/javascript" };
const stamp = () => `${Math.round((performance.timeOrigin + performance.now()) * 1000).toString().padStart(17, "0")} `;

async function execute({ writer }, tokens) {
  writer.write({ type: "start" });
  writer.write({ type: "text-start", id: "1" });
  const begun = performance.now();
  for (let number = 0; number < tokens; number += 1) {
    const due = begun + number * EVERY_MS - performance.now();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due)));
    writer.write({ type: "text-delta", id: "1", delta: stamp() });
  }
  writer.write({ type: "text-end", id: "1" });
  writer.write({ type: "finish" });
}

const server = createServer(async (request, response) => {
  if (request.method === "POST") {
    const { messages } = await json(request);
    const tokens = Number(messages.at(-1).parts[0].text);
    const stream = createUIMessageStream({ execute: (to) => execute(to, tokens) });
    return pipeUIMessageStreamToResponse({ response, stream });
  }
  const file = request.url === "/page.js" ? "page.js" : "index.html";
  response.setHeader("Content-Type", TYPES[file.split(".")[1]]);
  createReadStream(`${process.argv[2]}/${file}`).pipe(response);
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })));
