import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { arrange } from "../src/fold/branches.js";
import { Fold } from "../src/fold/fold.js";
import type { FabricEvent } from "../src/words.js";
import { plain } from "./plain.js";

const folder = new URL("../../../../../tests/golden/", import.meta.url);
const transcripts = readdirSync(folder).filter((name) => name.endsWith(".jsonl"));

test("there are golden transcripts", () => {
  assert.ok(transcripts.length > 0);
});

for (const name of transcripts) {
  const lines = readFileSync(new URL(name, folder), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  const events: FabricEvent[] = lines.flatMap((line) => line.event ?? []);
  const wanted = lines.at(-1).messages;

  test(`${name} folds to the messages at its end`, () => {
    const fold = new Fold(arrange);
    for (const event of events) fold.add(event);
    assert.deepEqual(fold.messages.map(plain), wanted);
  });

  test(`${name} folds to the same when it is read twice over`, () => {
    const fold = new Fold(arrange);
    for (const event of [...events, ...events]) fold.add(event);
    assert.deepEqual(fold.messages.map(plain), wanted);
  });

  test(`${name} folds to the same whatever was asked for in between`, () => {
    const fold = new Fold(arrange);
    for (const event of events) {
      fold.add(event);
      void fold.messages;
    }
    assert.deepEqual(fold.messages.map(plain), wanted);
  });
}
