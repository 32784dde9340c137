import type { FabricEvent, Offset } from "../src/words.js";

export const offset = (sequence: number): Offset => `1764000000000000_${String(sequence).padStart(16, "0")}`;

/** A milestone whose body says its number. */
export function delta(sequence: number): FabricEvent {
  return { offset: offset(sequence), id: `e${sequence}`, type: "app.n", actor: "user:a", run: null, ts: 1, body: { type: "app.n", n: sequence } };
}
