import type { Offset } from "../words.js";
import type { Arrange, Placed } from "./tree.js";

/**
 * Say which messages belong together: the rules of the Python SDK's `rules/branches.py`. Alternatives are users' messages
 * with one parent, and the answers of several runs to one message; all else is shown side by side.
 *
 * Give it to a `Fold` or a conversation to have `path`, `siblings` and each message's `parent`.
 */
export const arrange: Arrange = (messages, selected, answered) => {
  const parents = new Map<string, string | null>();
  const places = new Map<string, string[]>();
  const placeOf = new Map<string, string[]>();
  const chosen = new Map<unknown, string>();
  const newestOfRun = new Map<string | null, string>();
  const shown = new Set<string | null>();
  let tip: string | null = null;
  let stale = true;

  const show = (id: string): void => {
    if (shown.has(parents.get(id) ?? null) && chosen.get(placeOf.get(id)) === id) shown.add((tip = id));
  };
  const refresh = (): void => {
    if (!stale) return;
    stale = false;
    shown.clear();
    shown.add((tip = null)); // the beginning
    for (const id of parents.keys()) show(id);
  };
  const add = ({ id, run, said, named }: Placed): void => {
    let kind = said ? "said" : `of ${id}`;
    let parent: string | null | undefined = said ? named : newestOfRun.get(run);
    if (parent === undefined || (parent !== null && !parents.has(parent))) {
      refresh();
      parent = tip;
      const asked = !said && run ? answered(run) : null;
      if (asked && parents.has(asked)) {
        kind = "answers";
        parent = asked;
      }
    }
    const key = JSON.stringify([kind, parent]);
    const place = places.get(key) ?? [];
    places.set(key, place);
    place.push(id);
    parents.set(id, parent);
    placeOf.set(id, place);
    chosen.set(place, id);
    if (!said && run) newestOfRun.set(run, id);
    if (place.length > 1) stale = true; // another one was shown, with what follows it
    else if (!stale) show(id);
  };
  const select = (id: string): void => {
    for (let at: string | null | undefined = id; at; at = parents.get(at)) chosen.set(placeOf.get(at), at);
    stale = true;
  };

  const items: [Offset, string, Placed?][] = [...selected];
  for (const message of messages) items.push([message.first, message.id, message]);
  items.sort((a, b) => (a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]) ? -1 : 1));
  for (const [, id, message] of items) {
    if (message) add(message);
    else if (parents.has(id)) select(id);
  }
  refresh();
  return {
    parents,
    path: shown,
    siblings(id) {
      const ids = placeOf.get(id) ?? [];
      return { ids, index: ids.indexOf(id) };
    },
  };
};
