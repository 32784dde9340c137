import type { Chunk } from "./words.js";

/**
 * A stream of batches that are made as it is read: a slow reader gets fewer and larger chunks, and no queue grows. `over`
 * is called when there will be no more, or nobody reads on.
 */
export function streamOf(batches: AsyncGenerator<Chunk[], void>, signal: AbortSignal | undefined, over: () => void): ReadableStream<Chunk> {
  const source: UnderlyingDefaultSource<Chunk> = {
    async pull(controller) {
      try {
        for (;;) {
          const { done, value } = await batches.next();
          if (done) return over(), controller.close();
          for (const chunk of value) controller.enqueue(chunk);
          if (value.length > 0) return;
        }
      } catch (error) {
        over();
        if (signal?.aborted) controller.close();
        else controller.error(error);
      }
    },
    async cancel() {
      await batches.return();
      over();
    },
  };
  return new ReadableStream(source, { highWaterMark: 0 });
}
