import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { arrange } from "../src/fold/branches.js";
import { Fold } from "../src/fold/fold.js";
import { RequestFold } from "../src/life/asked.js";
import { ControlFold } from "../src/life/controls.js";
import { FloorFold } from "../src/life/floors.js";
import { Present } from "../src/life/present.js";
import type { FabricEvent } from "../src/words.js";
import { plain, plainAsked, plainOffer, plainRun } from "./plain.js";

const folder = new URL("../../../../../tests/golden/", import.meta.url);
const transcripts = readdirSync(folder).filter((name) => name.endsWith(".jsonl"));

interface End {
  messages: { id: string }[];
  path: string[];
  superseded: string[];
  siblings?: Record<string, string[]>;
  runs?: object[];
  floor?: Record<string, object>;
  requests?: object[];
  controls?: object[];
  present?: object[];
}

/** Fold events, and say of the result what an end says of it. */
function folded(events: FabricEvent[], end: End, between?: (fold: Fold) => unknown): End {
  const fold = new Fold(arrange);
  const [floors, requests, controls, present] = [new FloorFold(), new RequestFold(), new ControlFold(), new Present()];
  for (const event of events) {
    for (const each of [fold, floors, requests, controls, present]) each.add(event);
    between?.(fold);
  }
  const result: End = {
    messages: fold.messages.map((message) => plain(message) as { id: string }),
    path: fold.path.map(({ id }) => id),
    superseded: fold.superseded.map(({ id }) => id),
  };
  if (end.siblings) result.siblings = Object.fromEntries(Object.keys(end.siblings).map((id) => [id, [...fold.siblings(id).ids]]));
  if (end.runs) result.runs = [...fold.runs.values()].map(plainRun).sort((a, b) => ((a as End & { id: string }).id < (b as End & { id: string }).id ? -1 : 1));
  if (end.floor) result.floor = Object.fromEntries(floors.pools.map((pool) => [pool, { ...floors.state(pool), offers: floors.offers(pool).map(plainOffer) }]));
  if (end.requests) result.requests = requests.all.map(plainAsked);
  if (end.controls) result.controls = [...controls.all];
  if (end.present) result.present = [...present.devices];
  return result;
}

test("there are golden transcripts", () => {
  assert.ok(transcripts.length > 0);
});

for (const name of transcripts) {
  const lines = readFileSync(new URL(name, folder), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  const events: FabricEvent[] = lines.flatMap((line) => line.event ?? []);
  const last = lines.at(-1);
  const end: End = { superseded: [], path: last.messages.map(({ id }: { id: string }) => id), ...last };

  test(`${name} folds to what stands at its end`, () => {
    assert.deepEqual(folded(events, end), end);
  });

  test(`${name} folds to the same when it is read twice over, and backwards before`, () => {
    assert.deepEqual(folded([...events, ...events], end), end);
    assert.deepEqual(folded([...events.toReversed(), ...events], end), end);
  });

  test(`${name} folds to the same when a rewind brings an event late`, () => {
    for (let missed = 0; missed < events.length; missed += 1) {
      assert.deepEqual(folded([...events.slice(0, missed), ...events.slice(missed + 1), ...events.slice(missed)], end), end);
    }
  });

  test(`${name} folds to the same whatever was asked for in between`, () => {
    assert.deepEqual(
      folded(events, end, (fold) => [fold.messages, fold.path, fold.runs]),
      end,
    );
  });
}
