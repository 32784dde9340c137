import type { AgentConnection, Session } from "../index.js";
import { Changing } from "./changing.js";

/** What the log says of a run's life. */
const LIFE = /^(RUN_|run\.)/;

/** Which agents have lost their connection while they have a run of the session, which must be open. */
export function agents(session: Session): Agents {
  return new Agents(session);
}

export class Agents extends Changing {
  private readonly gone = new Map<string, AgentConnection>();

  constructor(session: Session) {
    super();
    this.offs.push(
      session.on("agent", (told) => {
        if (told.connected) this.gone.delete(told.run);
        else this.gone.set(told.run, told);
        this.changed();
      }),
      session.on("events", (events) => {
        // It has ended, is orphaned, is another's, or goes on.
        const settled = events.filter(({ type, run }) => run !== null && LIFE.test(type) && this.gone.delete(run));
        if (settled.length > 0) this.changed();
      }),
      session.on("live", () => {
        // Who is away now is said anew.
        this.gone.clear();
        this.changed();
      }),
    );
  }

  /** Runs of which it is not known yet whether their agent comes back. */
  get away(): readonly AgentConnection[] {
    return [...this.gone.values()];
  }
}
