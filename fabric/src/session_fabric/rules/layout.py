"""Which stream keeps which sessions, and how that changes while they are in use.

Sessions are spread over 256 shards, shards over streams; a tenant may have streams of its own. A layout changes by
moves. A stream is divided: the new one copies its part, at the same sequences, and takes over where the copy ends.
So offsets, claims and whatever else counts in sequences hold on over a move, and nobody above the broker hears of it.

The phases of a move, and who may do what with its sessions meanwhile:

- `copying`: everything goes on in the source; who asks again does so every `MOVING_LEASE_S`.
- `cutting`: reads go on in the source, writes wait.
- `placed`: both go to the target, which takes writes as soon as it has been told to.
- `left`: the source still has a copy, up to `cut`: durable subscriptions read on there what they have not had.
- `gone`: it has not. Kept for a while, since the broker may have forgotten the ids of what was copied.

What a process knows of the layout counts for a time only (`lease_s`, `MOVING_LEASE_S`), from when it asked. Whoever
moves waits for longer than that before each step on which others must not act by what was true before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from session_fabric.words.errors import InvalidRequest
from session_fabric.words.names import escape
from session_fabric.words.subjects import SHARDS

STREAM_PREFIX: Final = "SESSIONS-"
# How long it counts what one knows of the layout, and how long while something moves.
LEASE_S: Final = 5.0
MOVING_LEASE_S: Final = 1.0
# Clocks of different machines measure the same time to within much less.
MARGIN_S: Final = 0.5

Phase = Literal["copying", "cutting", "placed", "left", "gone"]


class Lodging(BaseModel):
    """A stream, and the shards that it keeps: of all tenants that have no streams of their own, or of one that has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str
    shards: tuple[int, ...]
    tenant: str | None = None


class Move(BaseModel):
    """Shards of all, or of one tenant, on their way from a stream to another. `cut`: the last sequence of the source
    that the target has. `empty`: there was nothing to copy. `placed_ms`: when the target took over, since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    shards: tuple[int, ...]
    tenant: str | None = None
    phase: Phase = "copying"
    empty: bool = False
    cut: int = 0
    placed_ms: int = 0


class Layout(BaseModel):
    """Where all sessions are kept, and what is on its way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lodgings: tuple[Lodging, ...]
    moves: tuple[Move, ...] = ()
    lease_s: float = LEASE_S

    @property
    def moving(self) -> bool:
        return any(move.phase in ("copying", "cutting") for move in self.moves)

    @property
    def counts_s(self) -> float:
        """For how long it counts to know this."""
        return min(self.lease_s, MOVING_LEASE_S) if self.moving else self.lease_s

    def of(self, tenant: str | None) -> list[Lodging]:
        """Return the streams of a tenant's own, or (None) those that all others share."""
        return [lodging for lodging in self.lodgings if lodging.tenant == tenant]

    def named(self, stream: str) -> Lodging | None:
        return next((lodging for lodging in self.lodgings if lodging.stream == stream), None)

    @property
    def streams(self) -> list[str]:
        """Return the streams that keep sessions, or will."""
        return list(dict.fromkeys([*(x.stream for x in self.lodgings), *(x.target for x in self.moves)]))


class Lodged(NamedTuple):
    """Where one session is kept. `moves`: how it came there, newest first; `leaving`: the move that it is in."""

    stream: str
    own: bool
    moves: tuple[Move, ...] = ()
    leaving: Move | None = None

    @property
    def streams(self) -> list[str]:
        """Return the streams in which there is something of the session: its own, and where it was copied from."""
        return [self.stream, *(m.source for m in self.moves if m.phase in ("placed", "left") and not m.empty)]

    def too_late(self, stream: str, sequence: int) -> bool:
        """Say whether an event came to a stream that the session had left: nobody was told that it is stored."""
        return stream != self.stream and any(m.source == stream and sequence > m.cut for m in self.moves)


def even(streams: int) -> Layout:
    """Return the layout of streams among which nothing has been moved."""
    shares: list[list[int]] = [[] for _ in range(streams)]
    for shard in range(SHARDS):
        shares[shard * streams // SHARDS].append(shard)
    return Layout(lodgings=tuple(Lodging(stream=stream_name(n), shards=tuple(share)) for n, share in enumerate(shares)))


def stream_name(number: int, tenant: str | None = None) -> str:
    return f"{STREAM_PREFIX}{number:02d}" + ("" if tenant is None else f"-{escape(tenant)}")


def lodged(layout: Layout, tenant: str, shard: int) -> Lodged:
    """Say where a tenant's sessions of a shard are kept."""
    own = any(lodging.tenant == tenant for lodging in layout.lodgings)
    whose = tenant if own else None
    stream = next(x.stream for x in layout.lodgings if x.tenant == whose and shard in x.shards)
    leaving = next(
        (
            m
            for m in layout.moves
            if m.phase in ("copying", "cutting")
            and m.source == stream
            and shard in m.shards
            and m.tenant in (None, tenant)
        ),
        None,
    )
    came: list[Move] = []
    at = stream
    while True:
        step = next(
            (
                m
                for m in layout.moves
                if m.phase in ("placed", "left", "gone")
                and m.target == at
                and shard in m.shards
                and m.tenant in (None, tenant)
            ),
            None,
        )
        if step is None:
            return Lodged(stream, own, tuple(came), leaving)
        came.append(step)
        at = step.source


# --- what to move -------------------------------------------------------------------------------


def free_numbers(layout: Layout, tenant: str | None = None) -> Iterable[str]:
    """Name streams that there are not yet, in order."""
    taken = set(layout.streams)
    return (name for n in range(SHARDS * 4) if (name := stream_name(n, tenant)) not in taken)


def grow(layout: Layout, streams: int, tenant: str | None = None) -> list[Move]:
    """Divide the fullest streams until there are this many; raises `InvalidRequest` where there are more."""
    # Each piece with the stream that it is in now; a move is out of one stream, however often it is halved here.
    pieces = [(x.stream, x.shards) for x in layout.of(tenant)]
    there = len(pieces)
    if streams < there:
        raise InvalidRequest(
            f"There are {there} streams, and {streams} were asked for: streams can be divided, not put together.",
            hint="Every stream counts on its own, and offsets count in it. Ask for more, or for as many.",
            streams=there,
        )
    if streams > SHARDS:
        raise InvalidRequest(f"{streams} streams cannot share {SHARDS} buckets.", hint=f"Use at most {SHARDS}.")
    while len(pieces) < streams:
        largest = max(range(len(pieces)), key=lambda n: (len(pieces[n][1]), -n))
        source, shards = pieces[largest]
        half = (len(shards) + 1) // 2
        pieces[largest] = (source, shards[:half])
        pieces.append((source, shards[half:]))
    names = iter(free_numbers(layout, tenant))
    return [Move(source=source, target=next(names), shards=shards, tenant=tenant) for source, shards in pieces[there:]]


def move_shards(layout: Layout, shards: Sequence[int], to: str | None, tenant: str | None = None) -> Move:
    """Move shards to a new stream. Raises `InvalidRequest` where that cannot be."""
    out = sorted({shard for shard in shards if not 0 <= shard < SHARDS})
    if out or not shards:
        raise InvalidRequest(
            f"There is no bucket {out[0]}." if out else "No bucket was named.",
            hint=f"Buckets are 0 to {SHARDS - 1}, as 7 or 40-47.",
        )
    homes = {x.stream: x for x in layout.of(tenant) if set(x.shards) & set(shards)}
    if len(homes) != 1:
        spread = ", ".join(sorted(homes)) or "no stream of the tenant's own"
        raise InvalidRequest(
            f"These buckets are in {spread}: one move is out of one stream.",
            hint="Move those of each stream on their own: `fabricctl stream ls` says which has which.",
        )
    source, home = next(iter(homes.items()))
    if set(home.shards) == set(shards):
        raise InvalidRequest(
            f"{source} has no other buckets than these: nothing would be left in it.",
            hint="Leave one there at least.",
        )
    target = to or next(iter(free_numbers(layout, tenant)))
    if target in layout.streams:
        raise InvalidRequest(
            f"{target} is there already: what it keeps has sequences of its own, and offsets count in them.",
            hint="Buckets move to a stream that is made for them: leave --to out, or name a new one, as "
            f"{next(iter(free_numbers(layout, tenant)))}.",
            stream=target,
        )
    if not target.startswith(STREAM_PREFIX) or len(target) > 64 or not set(target) <= _NAMES:
        raise InvalidRequest(
            f"{target!r:.80} is not a name for a stream of sessions.",
            hint=f"It begins with {STREAM_PREFIX}; letters, digits, _ and - follow.",
        )
    return Move(source=source, target=target, shards=tuple(sorted(set(shards))), tenant=tenant)


_NAMES: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=")


def own_streams(layout: Layout, tenant: str, used: Collection[int], streams: int | None) -> list[Move]:
    """Give a tenant streams of its own. `used`: the shards in which it has sessions.

    What is in one stream goes to one stream: there are as many as shared ones have sessions of the tenant, or more.
    """
    shared = layout.of(None)
    full = [x for x in shared if set(x.shards) & set(used)]
    idle = [x for x in shared if not set(x.shards) & set(used)]
    count = max(1, len(full)) if streams is None else streams
    if count < len(full):
        raise InvalidRequest(
            f"Tenant {tenant!r} has sessions in {len(full)} streams, and {count} were asked for: each needs one.",
            hint=f"Use --streams {len(full)} or more, or leave it out.",
            streams=len(full),
        )
    if count > SHARDS:
        raise InvalidRequest(f"{count} streams cannot share {SHARDS} buckets.", hint=f"Use at most {SHARDS}.")
    names = iter(free_numbers(layout, tenant))
    targets = [next(names) for _ in range(max(1, min(count, len(full) + sum(len(x.shards) for x in idle))))]
    moves = [
        Move(source=x.stream, target=target, shards=x.shards, tenant=tenant)
        for x, target in zip(full, targets, strict=False)
    ]
    spare = [(x.stream, shard) for x in idle for shard in x.shards]
    takers = targets[len(full) :] or targets
    given: dict[tuple[str, str], list[int]] = {}
    for number, (source, shard) in enumerate(spare):
        given.setdefault((source, takers[number * len(takers) // len(spare)]), []).append(shard)
    empty = [
        Move(source=source, target=target, shards=tuple(shards), tenant=tenant, empty=True)
        for (source, target), shards in given.items()
    ]
    return moves + empty


# --- how it goes on -----------------------------------------------------------------------------


def begun(layout: Layout, moves: Sequence[Move]) -> Layout:
    """Add moves. Raises `InvalidRequest` while others are under way."""
    under_way = [m for m in layout.moves if m.phase not in ("left", "gone")]
    if under_way:
        raise InvalidRequest(
            f"{under_way[0].source} is being divided, and was not finished.",
            hint="Run `fabricctl stream repair` first.",
        )
    return layout.model_copy(update={"moves": (*layout.moves, *moves)})


def in_phase(layout: Layout, before: Phase, after: Phase, cuts: Mapping[str, int] | None = None) -> Layout:
    """Bring every move from one phase to the next; `cuts`: the last sequence of each source that was copied."""
    moves = tuple(
        m.model_copy(update={"phase": after, "cut": m.cut if cuts is None or m.empty else cuts[m.target]})
        if m.phase == before
        else m
        for m in layout.moves
    )
    return layout.model_copy(update={"moves": moves})


def placed(layout: Layout, cuts: Mapping[str, int], now_ms: int) -> Layout:
    """Let the targets of what is cut take over; the sequences of the last that each has of its source are known."""
    cutting = [m for m in layout.moves if m.phase == "cutting"]
    shares: dict[tuple[str, str | None], list[int]] = {(x.stream, x.tenant): list(x.shards) for x in layout.lodgings}
    for move in cutting:
        held = shares.get((move.source, move.tenant))
        if held is not None:  # what goes to a tenant's own streams stays the others' where it was
            shares[move.source, move.tenant] = [shard for shard in held if shard not in move.shards]
        shares.setdefault((move.target, move.tenant), []).extend(move.shards)
    lodgings = tuple(
        Lodging(stream=stream, shards=tuple(sorted(share)), tenant=tenant) for (stream, tenant), share in shares.items()
    )
    after = in_phase(layout.model_copy(update={"lodgings": lodgings}), "cutting", "placed", cuts)
    moves = tuple(
        m.model_copy(update={"placed_ms": now_ms}) if m.phase == "placed" and not m.placed_ms else m
        for m in after.moves
    )
    return after.model_copy(update={"moves": moves})


def given_up(layout: Layout) -> Layout:
    """Leave everything where it is: of what has not taken over, nothing was written elsewhere."""
    moves = tuple(m for m in layout.moves if m.phase not in ("copying", "cutting"))
    return layout.model_copy(update={"moves": moves})


def settled(layout: Layout, done: Collection[Move]) -> Layout:
    """Note of moves that nothing is left at their source."""
    moves = tuple(m.model_copy(update={"phase": "gone"}) if m in done else m for m in layout.moves)
    return layout.model_copy(update={"moves": moves})


def forgotten(layout: Layout, now_ms: int, after_ms: int) -> Layout:
    """Leave out what is long gone."""
    moves = tuple(m for m in layout.moves if m.phase != "gone" or m.placed_ms + after_ms > now_ms)
    return layout.model_copy(update={"moves": moves})
