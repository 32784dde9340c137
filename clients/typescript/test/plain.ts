import type { Message, Run } from "../src/fold/messages.js";

/** The form that every client's folding must give (tests/golden). */
export function plain({ id, role, content, status, reasoning, toolCalls, parent, delivery }: Message): object {
  return { id, role, content, status, reasoning, tool_calls: toolCalls, parent: parent ?? null, delivery };
}

/** The same of a run. */
export function plainRun({ since: _, ...run }: Run): object {
  return run;
}
