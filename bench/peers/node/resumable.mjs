// resumable-stream as its README uses it, behind HTTP, with REDIS_URL. An agent's text comes as the body of `POST /TOPIC`,
// whose answer is what the first viewer gets; others follow by `GET /TOPIC?resumeAt=N`.
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { createResumableStreamContext } from "resumable-stream";

const context = createResumableStreamContext({ waitUntil: null });

/** The request's text, which ends where the agent's connection does. */
const textOf = (request) =>
  new ReadableStream({
    start(controller) {
      let open = true;
      const end = () => {
        if (open) controller.close();
        open = false;
      };
      request.setEncoding("utf8");
      request.on("data", (text) => controller.enqueue(text));
      for (const last of ["end", "error", "close"]) request.on(last, end);
    },
  });

const http = createServer({ requestTimeout: 0 }, async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  const stream =
    request.method === "POST"
      ? await context.createNewResumableStream(pathname, () => textOf(request))
      : await context.resumeExistingStream(pathname, Number(searchParams.get("resumeAt") ?? 0));
  if (!stream) return response.writeHead(422).end();
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.flushHeaders();
  response.on("error", () => {});
  Readable.from(stream).on("error", () => response.destroy()).pipe(response);
});
http.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: http.address().port })));
