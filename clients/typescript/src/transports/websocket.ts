import { parseFrame, textOf } from "../frames.js";
import { SUBPROTOCOL } from "../words.js";
import type { Transport } from "./transport.js";

/** What is made of a WebSocket's class, the native one or that of `ws`: whoever has the type of theirs has this one. */
export type WebSocketClass = new (url: string, protocols: string[]) => {
  readonly readyState: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
};

/** The native socket. `implementation` is for machines without a WebSocket of their own. */
export function webSocketTransport(implementation?: WebSocketClass): Transport {
  const Socket = (implementation as typeof WebSocket | undefined) ?? (globalThis as { WebSocket?: typeof WebSocket }).WebSocket;
  return {
    name: "websocket",
    available: () => Socket !== undefined,
    dial(target, events) {
      const socket = new Socket!(`${target.url.replace(/^http/, "ws")}/v1/ws`, [SUBPROTOCOL]);
      let over = false;
      const end = (code: number, reason: string): void => {
        if (over) return;
        over = true;
        events.closed(code, reason);
      };
      socket.onopen = () => over || events.opened();
      socket.onmessage = ({ data }) => {
        if (over) return;
        const frame = typeof data === "string" ? parseFrame(data) : undefined;
        if (frame !== undefined) return events.frame(frame);
        // What we cannot read may have been an event: only a new connection is sure to bring it.
        socket.close(4000);
        end(1006, "unreadable");
      };
      socket.onclose = ({ code, reason }) => end(code, reason);
      socket.onerror = () => undefined; // `close` follows and says more
      return {
        send(frame) {
          if (socket.readyState === 1) socket.send(textOf(frame));
        },
        close(code, reason) {
          over = true;
          socket.close(code, reason);
        },
      };
    },
  };
}
