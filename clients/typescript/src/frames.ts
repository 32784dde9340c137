import type { ClientFrame, CompactDeltas, FabricEvent, Frame, GatewayFrame, WireEvent } from "./words.js";

/** Put back the fields that a frame leaves out because they equal the previous event's. */
export function expand(events: readonly WireEvent[]): FabricEvent[] {
  let type = "";
  let actor = "";
  let run: string | null = null;
  let ts: number | undefined;
  return events.map((event) => {
    type = event.type ?? type;
    actor = event.actor ?? actor;
    if (event.run !== undefined) run = event.run;
    ts = event.ts ?? ts;
    return { ...event, type, actor, run, ...(ts === undefined ? {} : { ts }) };
  });
}

type Ref = Extract<GatewayFrame, { op: "ref" }>;

/** What the refs of one connection stand for. A ref is known by its number within its subscription. */
export class Refs {
  private readonly refs = new Map<number, Map<number, Ref>>();

  announce(ref: Ref): void {
    const refs = this.refs.get(ref.sub) ?? new Map<number, Ref>();
    this.refs.set(ref.sub, refs);
    refs.set(ref.ref, { ...ref });
  }

  forget(sub: number): void {
    this.refs.delete(sub);
  }

  /** Write compact deltas out as events. Throws for a ref that was never announced: the stream cannot be trusted then. */
  expand(frame: CompactDeltas): FabricEvent[] {
    const refs = this.refs.get(frame[0]);
    const events: FabricEvent[] = [];
    for (let i = 1; i + 2 < frame.length; i += 3) {
      const ref = refs?.get(frame[i] as number);
      const text = frame[i + 2];
      if (ref === undefined || typeof text !== "string") throw new TypeError();
      const key = ref.type === "TOOL_CALL_ARGS" ? "toolCallId" : "messageId"; // names what a delta continues
      events.push({
        offset: `${ref.segment}_${String(frame[i + 1]).padStart(16, "0")}`,
        type: ref.type,
        actor: ref.actor,
        run: ref.run,
        at: ref.at,
        body: { type: ref.type, [key]: ref.message, delta: text },
      });
      ref.at += text.length;
    }
    return events;
  }
}

/** Write a frame as the socket sends it. */
export const textOf = (frame: ClientFrame): string => JSON.stringify({ ...frame, ...frame.trace, via: undefined, trace: undefined });

/** Read one text frame; `undefined` for what is not a frame of this protocol. */
export function parseFrame(text: string): Frame | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (Array.isArray(value)) return typeof value[0] === "number" ? (value as unknown as CompactDeltas) : undefined;
  return typeof value === "object" && value !== null && "op" in value ? (value as GatewayFrame) : undefined;
}
