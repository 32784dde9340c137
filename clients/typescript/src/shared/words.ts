/** What the tabs of a browser say to each other. Data only. */

/** Whoever uses one end of a lane. After `over` or `alone` nothing follows. */
export interface End {
  /** Frames may be sent from here on. */
  opened(): void;
  /** One frame of the gateway's, as it came. */
  text(text: string): void;
  /** As `WireEvents.closed`. */
  over(code: number, reason: string): void;
  /** This gateway shares with nobody: have a connection of your own. */
  alone(): void;
}

/** What an `End` sends through. */
export interface Way {
  send(text: string): void;
  /** Let go at once. */
  close(reason: string): void;
}

/** To all tabs: one wants a lane, by the name of its link; one leads from here on. */
export type Called = { readonly dial: string } | { readonly leads: string };

/** Over a link, to whoever leads and has answered it. `had`: so many characters were taken up. */
export type Said = { readonly to: string } & ({ readonly text: string } | { readonly had: number } | { readonly bye: string });

/** Over a link, from whoever leads. `here`: the sign of life for what was said. */
export type Told = { readonly from: string } & (
  | { readonly here: true }
  | { readonly opened: true }
  | { readonly text: string }
  | { readonly over: readonly [number, string] }
  | { readonly alone: true }
);

export const LANES = "session-fabric.v1.lanes";
/** Close code of a lane: the others are another participant's. */
export const ANOTHERS = 4414;
export const SLOW_CONSUMER = 4408;
export const STOPPING = 1001;
export const BROKEN = 1006;
