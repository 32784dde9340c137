import type { FabricEvent, Member } from "../words.js";

/** Who is there, from `who` and from the log's joins and leaves. A rule; either may come first. */
export class Present {
  private members = new Map<string, Member & { seen: string }>();
  /** What came while `who` was being answered, and may be newer than the answer. */
  private meanwhile: FabricEvent[] | null = null;

  /** Each participant once, however many devices; the longest there first. */
  get participants(): readonly Member[] {
    const first = new Map<string, Member>();
    for (const member of this.members.values()) {
      const known = first.get(member.participant);
      if (known === undefined || (member.since ?? 0) < (known.since ?? 0)) first.set(member.participant, member);
    }
    return [...first.values()].sort((a, b) => (a.since ?? 0) - (b.since ?? 0));
  }

  get devices(): readonly Member[] {
    return [...this.members.values()];
  }

  /** `who` is being asked now. */
  asking(): void {
    this.meanwhile = [];
  }

  /** Take the answer to `who`: the whole truth, but for what has come since it was asked. */
  set(members: readonly Member[]): void {
    this.members = new Map(members.map((member) => [key(member.participant, member.device), { ...member, seen: "" }]));
    const newer = this.meanwhile ?? [];
    this.meanwhile = null;
    for (const event of newer) this.add(event);
  }

  /** Fold one event; true when it changed anything. */
  add(event: FabricEvent): boolean {
    this.meanwhile?.push(event);
    const { participant, device, data, status } = event.body as { participant?: unknown; device?: unknown } & Pick<Member, "data" | "status">;
    const who = typeof participant === "string" ? participant : event.actor;
    const where = typeof device === "string" ? device : null;
    const id = key(who, where);
    const known = this.members.get(id);
    if (known !== undefined && event.offset <= known.seen) return false;
    switch (event.type) {
      case "presence.joined":
      case "presence.updated": {
        const since = known?.since ?? event.ts;
        const member = { participant: who, device: where, data: data ?? known?.data ?? null, status: status ?? null, seen: event.offset };
        this.members.set(id, since === undefined ? member : { ...member, since });
        return true;
      }
      case "presence.left":
        return this.members.delete(id);
      default:
        return false;
    }
  }
}

const key = (participant: string, device: string | null | undefined): string => `${participant}\n${device ?? ""}`;
