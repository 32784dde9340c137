import { type Appended, FabricError, newId, type Session } from "../index.js";

export interface BranchOptions {
  /** The new message's id. Said again with the same id it is one message. Made up by default. */
  readonly id?: string | undefined;
  readonly pool?: string | undefined;
}

/** Other answers and other questions: what is shown is one branch of what was said. */
export function branches(session: Session): Branches {
  return new Branches(session);
}

export class Branches {
  constructor(readonly session: Session) {}

  /** Show this message and what follows it, to everybody. */
  select(message: string): Promise<Appended> {
    return this.session.append({ type: "branch.selected", message });
  }

  /** Have a message of a user answered again, beside the answer that is there. */
  regenerate(message: string, options: Pick<BranchOptions, "pool"> = {}): Promise<Appended> {
    return this.session.append({ type: "message.regenerate", message, ...options });
  }

  /** Say something else in a message's place: what is new stands beside it, behind the same `parent` (null: the beginning). */
  async edit(message: { readonly parent: string | null | undefined }, content: unknown, options: BranchOptions = {}): Promise<Appended> {
    const { id = newId("m"), pool } = options;
    if (message.parent === undefined) throw new FabricError("unsupported", "The message's parent is not known.", false, "Open the conversation with { arrange }.");
    const body = { type: "message.user", message: { id, role: "user", content }, parent: message.parent, ...(pool ? { pool } : {}) };
    return this.session.append(body, { id });
  }
}
