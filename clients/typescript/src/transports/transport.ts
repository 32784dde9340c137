import type { ClientFrame, Frame } from "../words.js";

/** Where to connect, and as whom. */
export interface Target {
  /** `http://…` or `https://…`, without a slash at its end. */
  readonly url: string;
  readonly token: string | undefined;
}

export interface WireEvents {
  /** Frames may be sent from here on. */
  opened(): void;
  frame(frame: Frame): void;
  /** Said once; nothing follows. 1006 is a connection that broke or was never had. */
  closed(code: number, reason: string): void;
}

/** One connection. Frames keep their order in both directions; after `closed` everything on the way is lost. */
export interface Wire {
  send(frame: ClientFrame): void;
  /** Let go at once. `closed` need not follow. */
  close(code: number, reason: string): void;
}

/** A way to speak to a gateway. All of them carry the frames of docs/protocol.md section 4. */
export interface Transport {
  readonly name: string;
  /** Whether this machine has what it needs. */
  available(): boolean;
  dial(target: Target, events: WireEvents): Wire;
}
