import type { Message, Run } from "../src/fold/messages.js";
import type { Asked } from "../src/life/asked.js";
import type { Offer } from "../src/life/floors.js";

/** The form that every client's folding must give (tests/golden). */
export function plain({ id, role, content, status, reasoning, toolCalls, parent, delivery, redacted }: Message): object {
  const fields = { id, role, content, status, reasoning, tool_calls: toolCalls, parent: parent ?? null, delivery };
  return redacted ? { ...fields, redacted } : fields;
}

/** The same of a run. */
export function plainRun({ since: _, ...run }: Run): object {
  return run;
}

/** The same of a hand-over offer. */
export function plainOffer({ pool: _, offset: __, ...offer }: Offer): object {
  return offer;
}

/** The same of a request, and of what became of it. */
export function plainAsked({ request: { request, kind, run, to, deadline, claimed }, ...outcome }: Asked): object {
  return { request, kind, run, to, deadline, claimed, ...outcome };
}
