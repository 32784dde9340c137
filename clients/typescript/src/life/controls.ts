import type { FabricEvent } from "../index.js";

/** A request to a run and what became of it. */
export interface Control {
  readonly request: string;
  readonly action: string;
  readonly run: string;
  readonly by: string;
  /** `requested` until the run or the fabric has answered. */
  readonly state: "requested" | "accepted" | "rejected" | "expired";
  /** Why it was not accepted. */
  readonly reason: string | null;
  /** The agent's code had not stopped by the deadline. */
  readonly overdue: boolean;
}

/** A session's control requests: from its events, in whatever order and however often they come. A rule: no I/O. */
export class ControlFold {
  private readonly asked = new Map<string, FabricEvent>();
  private readonly outcomes = new Map<string, FabricEvent>();
  private readonly overdue = new Set<string>();

  /** Fold one event; true when it is about a control request. */
  add(event: FabricEvent): boolean {
    const request = String(event.body["request"] ?? event.id);
    switch (event.type) {
      case "control.requested":
        this.asked.set(event.id ?? request, event);
        return true;
      case "control.accepted":
      case "control.rejected":
      case "control.expired":
        this.outcomes.set(request, event);
        return true;
      case "control.overdue":
        this.overdue.add(request);
        return true;
      default:
        return false;
    }
  }

  /** All requests, oldest first. */
  get all(): readonly Control[] {
    const events = [...this.asked].sort(([, a], [, b]) => (a.offset < b.offset ? -1 : 1));
    return events.map(([request, { body, actor }]) => {
      const outcome = this.outcomes.get(request);
      const reason = outcome?.body["reason"];
      return {
        request,
        action: String(body["action"]),
        run: String(body["run"]),
        by: actor,
        state: (outcome?.type.slice("control.".length) ?? "requested") as Control["state"],
        reason: typeof reason === "string" ? reason : null,
        overdue: this.overdue.has(request),
      };
    });
  }
}
