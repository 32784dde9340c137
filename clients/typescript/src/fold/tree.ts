import type { Offset } from "../words.js";

/** What a message's place among the others depends on. `named`: its parent, where its author named one. */
export interface Placed {
  readonly first: Offset;
  readonly id: string;
  readonly run: string | null;
  readonly said: boolean;
  readonly named?: string | null | undefined;
}

/** The alternatives at one place, in the order of the log, and which of them was asked for; -1: there is none. */
export interface Siblings {
  readonly ids: readonly string[];
  readonly index: number;
}

/** What follows what; `parents` is in the order of the log, so that a parent comes before what follows it. */
export interface Tree {
  readonly parents: ReadonlyMap<string, string | null>;
  /** The messages that are shown, in the order of the log. */
  readonly path: ReadonlySet<string | null>;
  siblings(id: string): Siblings;
}

/** Work out what follows what; `answered` is the message that a run answers. */
export type Arrange = (
  messages: readonly Placed[],
  selected: ReadonlyMap<Offset, string>,
  answered: (run: string) => string | null | undefined,
) => Tree;
