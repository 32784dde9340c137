import type { FabricEvent, Member, Offset } from "../words.js";

/** What is known of one device: its newest leaving, the first and the newest event behind that, and what `who` said. */
interface Stay {
  left: Offset;
  first: FabricEvent | null;
  last: FabricEvent | null;
  told: Member | null;
}

/**
 * Who is there: from the log's joins and leaves, in whatever order and however often they come, and from `who`, which
 * may come before or behind them. A rule: no I/O.
 */
export class Present {
  private stays = new Map<string, Stay>();
  /** What came while `who` was being answered, and may be newer than the answer. */
  private meanwhile: FabricEvent[] | null = null;

  /** Each participant once, however many devices; the longest there first. */
  get participants(): readonly Member[] {
    const first = new Map<string, Member>();
    for (const member of this.devices) if (!first.has(member.participant)) first.set(member.participant, member);
    return [...first.values()];
  }

  /** The longest there first. */
  get devices(): readonly Member[] {
    const there = [...this.stays.values()].flatMap((stay) => memberOf(stay) ?? []);
    return there.sort((a, b) => (a.since ?? 0) - (b.since ?? 0));
  }

  /** `who` is being asked now. */
  asking(): void {
    this.meanwhile = [];
  }

  /** Take the answer to `who`: the whole truth, but for what has come since it was asked. */
  set(members: readonly Member[]): void {
    this.stays = new Map(members.map((told) => [key(told.participant, told.device), { left: "", first: null, last: null, told }]));
    const newer = this.meanwhile ?? [];
    this.meanwhile = null;
    for (const event of newer) this.add(event);
  }

  /** Fold one event; true when it changed anything. */
  add(event: FabricEvent): boolean {
    if (!/^presence\.(joined|updated|left)$/.test(event.type)) return false;
    this.meanwhile?.push(event);
    const { who, where } = whoOf(event);
    const stay = this.stays.get(key(who, where)) ?? { left: "", first: null, last: null, told: null };
    this.stays.set(key(who, where), stay);
    const { offset } = event;
    const { left, first, last, told } = stay;
    if (offset <= left) return false;
    if (event.type === "presence.left") {
      stay.left = offset;
      stay.told = null;
      if (last !== null && last.offset < offset) stay.last = null;
      // Of several before and behind it the first one behind comes again when this one is late.
      if (first !== null && first.offset < offset) stay.first = stay.last;
      return last !== null || told !== null;
    }
    if (first === null || offset < first.offset) stay.first = event;
    if (last === null || offset > last.offset) stay.last = event;
    return first !== stay.first || last !== stay.last;
  }
}

function memberOf({ first, last, told }: Stay): Member | null {
  if (first === null || last === null) return told;
  const { who, where } = whoOf(last);
  const { data, status } = last.body as Pick<Member, "data" | "status">;
  const since = told?.since ?? first.ts;
  const member = { participant: who, device: where, data: data ?? told?.data ?? null, status: status ?? null };
  return since === undefined ? member : { ...member, since };
}

function whoOf({ actor, body: { participant, device } }: FabricEvent): { who: string; where: string | null } {
  return { who: typeof participant === "string" ? participant : actor, where: typeof device === "string" ? device : null };
}

const key = (participant: string, device: string | null | undefined): string => `${participant}\n${device ?? ""}`;
