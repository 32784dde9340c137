// What people write: the types of the client take it, with `exactOptionalPropertyTypes` and all. Read by `npm run check`, never run.
import { connect, type Session } from "../src/index.js";
import { branches, state } from "../src/life/index.js";
import { FabricChatTransport } from "../src/ai-sdk/index.js";
import { shared } from "../src/shared/index.js";

/** The class of `ws`, as far as it differs from a browser's. */
declare class WebSocketOfWs {
  constructor(address: string | URL, protocols?: string | string[], options?: { readonly maxPayload?: number });
  readonly readyState: 0 | 1 | 2 | 3;
  onmessage: ((event: { readonly data: string | Buffer | ArrayBuffer | Buffer[] }) => void) | null;
  send(data: string | Buffer, done?: (error?: Error) => void): void;
  close(code?: number, reason?: string | Buffer): void;
}

interface Rated {
  type: "app.rated";
  stars: number;
}

export async function uses(session: Session, found: { url: string | undefined; device: string | undefined; signal: AbortSignal | undefined; rated: Rated }): Promise<void> {
  const { url, device, signal, rated } = found;
  const client = connect({ url, device, token: process.env["TOKEN"], webSocket: WebSocketOfWs });
  connect(shared({ url, device, webSocket: WebSocketOfWs }));
  await session.append(rated, { id: undefined, signal });
  await session.append({ type: "app.rated", stars: 3 });
  session.follow({ after: undefined, signal, maxQueued: undefined });
  await session.control("steer", "run", { id: undefined, signal, deadlineMs: undefined });
  session.conversation({ presence: undefined, arrange: undefined });
  await branches(session).edit({ parent: null }, "Hello", { pool: undefined });
  new FabricChatTransport(client, { pool: undefined, onAbort: undefined });
  const plan = await state(session).get("plan");
  await state(session).put("plan", { ...plan.body, done: true }, plan.revision);
}
