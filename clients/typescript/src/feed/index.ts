/** Of the package's own: what its entries for frameworks share. */
export { aguiOf, type Interrupt, interruptsOf, snapshotOf } from "./agui.js";
export { Asking, type AskingOptions } from "./asking.js";
export { Claims } from "./claims.js";
export { Feed, feedOf, isOver } from "./feed.js";
export { runOf } from "./ids.js";
export { type RunNow, Teller, textOf, type Told, versionOf } from "./telling.js";
