"""Who has the floor of a pool in a session, and how it changes hands. Pure.

The floor is a chain of events on one subject, each written under compare-and-set on the one before and each saying the
state that follows from it, so that the newest alone tells all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from session_fabric.words import events
from session_fabric.words.arguments import check_text, check_whole
from session_fabric.words.errors import Forbidden, InvalidName, InvalidRequest, NotHolder
from session_fabric.words.events import Event
from session_fabric.words.names import check_id, check_participant
from session_fabric.words.positions import Offset

STAFF: Final = frozenset({"operator", "supervisor", "service"})
HUMANS: Final = frozenset({"user", "operator", "supervisor"})
ROLES: Final = frozenset({"user", "agent", "operator", "supervisor", "service"})
MOST_NOTE: Final = 4000
CHAIN: Final = frozenset(
    {
        events.FLOOR_CLAIMED,
        events.FLOOR_RELEASED,
        events.FLOOR_LOST,
        events.HANDOFF_ACCEPTED,
        events.HANDOFF_DECLINED,
        events.HANDOFF_EXPIRED,
        events.HANDOFF_TAKEN,
        events.HANDOFF_RETURNED,
    }
)
OFFER_MS: Final = 60_000
MOST_OFFER_MS: Final = 86_400_000


class FloorState(NamedTuple):
    """Who has a pool's floor. `participant` None: nobody, and any agent of the pool may take it.

    An agent has it through a process (`holder`); a person has none; `pool:…` is another pool, to which what is asked is
    forwarded. `generation` rises with each change; `sequence` is the chain's newest event (0: none).
    """

    pool: str
    participant: str | None = None
    holder: str | None = None
    generation: int = 0
    sequence: int = 0

    @property
    def human(self) -> bool:
        return self.participant is not None and role_of(self.participant) in HUMANS

    @property
    def delegate(self) -> str | None:
        """The pool that has been given this one's floor."""
        return None if self.participant is None or role_of(self.participant) != "pool" else self.participant[5:]

    def plain(self) -> dict[str, Any]:
        return {"participant": self.participant, "holder": self.holder, "generation": self.generation}

    def given(self, participant: str | None, holder: str | None = None) -> FloorState:
        """Return the floor in other hands."""
        return self._replace(participant=participant, holder=holder, generation=self.generation + 1)


def role_of(participant: str) -> str:
    return participant.partition(":")[0]


def read(pool: str, sequence: int, body: Mapping[str, Any]) -> FloorState:
    """Read the state from the chain's newest event; what is no such thing counts as nobody's."""
    floor = body.get("floor")
    if not isinstance(floor, dict):
        return FloorState(pool, sequence=sequence)
    participant, holder, generation = floor.get("participant"), floor.get("holder"), floor.get("generation")
    return FloorState(
        pool,
        participant if isinstance(participant, str) else None,
        holder if isinstance(holder, str) else None,
        generation if isinstance(generation, int) else 0,
        sequence,
    )


def claim(state: FloorState, agent: str, holder: str) -> FloorState:
    """An agent's process takes a floor that nobody has (or that is its own already). Raises `NotHolder`."""
    if state.participant is not None and state.holder != holder:
        raise not_holder(state)
    return state.given(agent, holder)


def release(state: FloorState, holder: str) -> FloorState:
    """An agent's process lets it go. Raises `NotHolder`."""
    if state.holder != holder:
        raise not_holder(state)
    return state.given(None)


def take(state: FloorState, who: str) -> FloorState:
    """An operator or supervisor takes it, whoever has it. Raises `Forbidden`."""
    if role_of(who) not in STAFF:
        raise Forbidden(f"{who} cannot take the floor.", hint="Operators and supervisors can; others are offered it.")
    return state.given(who)


def give_back(state: FloorState, who: str) -> FloorState:
    """Who has it as a person lets agents have it again; supervisors for others too. Raises `NotHolder`."""
    if state.participant is None or state.holder is not None:
        raise not_holder(state)
    if state.participant != who and role_of(who) not in ("supervisor", "service"):
        raise not_holder(state)
    return state.given(None)


def check_note(note: str) -> None:
    if len(check_text(note, "The note")) > MOST_NOTE:
        raise InvalidRequest(
            f"The note has {len(note)} characters; {MOST_NOTE} is the most.",
            hint="Say the rest in a message.",
            limit=MOST_NOTE,
        )


def check_offer(state: FloorState, who: str, to: object, note: str, deadline_ms: int) -> None:
    """Raise unless the offer can be made: by who has the floor or is of staff, to somebody else who can be named."""
    if role_of(who) not in STAFF and state.participant != who:
        raise not_holder(state)
    check_note(note)
    check_whole(deadline_ms, "deadline_ms", 1, MOST_OFFER_MS)
    hint = 'Name a participant ("operator:eve"), a role ("role:operator") or a pool ("pool:billing").'
    if not isinstance(to, str) or to in (who, state.participant):
        raise InvalidRequest(f"The floor cannot be offered to {to!r:.60}.", hint=hint)
    kind, _, name = to.partition(":")
    if kind == "role" and name in ROLES:
        return
    if kind == "pool":
        if check_id(name, "pool") == state.pool:
            raise InvalidRequest(f"The floor is pool {name!r}'s already.", hint="Name another pool.")
        return
    try:
        check_participant(to)
    except InvalidName as error:
        raise InvalidRequest(f"The floor cannot be offered to {to!r:.60}.", hint=hint) from error


def accept(state: FloorState, to: object, who: str, pool: str | None = None) -> FloorState:
    """Whom it was offered to takes it; `pool`: an agent takes it for its pool. Raises `Forbidden`."""
    if pool is not None:
        if to != f"pool:{pool}":
            raise Forbidden(f"The floor was offered to {to}, not to pool {pool!r}.")
        return state.given(f"pool:{pool}")
    if to not in (who, f"role:{role_of(who)}"):
        raise Forbidden(f"The floor was offered to {to}, not to {who}.")
    return state.given(who)


def not_holder(state: FloorState) -> NotHolder:
    has = "Nobody has" if state.participant is None else f"{state.participant} has"
    return NotHolder(f"{has} the floor of pool {state.pool!r}.", holder=state.participant, pool=state.pool)


# --- what a session's events say of its floors --------------------------------------------------------


class Offer(NamedTuple):
    """The floor, offered to somebody who has not decided yet.

    `deadline` is milliseconds since 1970, None: none. `at` is the floor's newest event at the time; what comes behind
    it ends the offer.
    """

    request: str
    by: str
    to: Any
    note: str | None
    deadline: int | None
    offset: Offset
    at: Offset

    def plain(self) -> dict[str, Any]:
        """Spell it as docs/protocol.md and tests/golden do."""
        return {name: getattr(self, name) for name in ("request", "by", "to", "note", "deadline")}


class FloorFold:
    """Who has a session's floors and what is offered: from its events, in whatever order and however often they come.

    An offer whose deadline has passed is open until the fabric says that it is over.
    """

    def __init__(self) -> None:
        self._newest: dict[str, Event] = {}
        self._offers: dict[str, dict[str, Offer]] = {}

    def add(self, event: Event) -> None:
        if event.type not in CHAIN and event.type != events.HANDOFF_OFFERED:
            return
        body = event.body
        pool = body.get("pool")
        if not isinstance(pool, str):
            return
        offers = self._offers.setdefault(pool, {})
        if event.type == events.HANDOFF_OFFERED:
            offer = _offer(event, body)
            if offer is not None:
                offers[offer.request] = offer
        elif pool not in self._newest or self._newest[pool].offset < event.offset:
            self._newest[pool] = event

    def pools(self) -> list[str]:
        """Return the pools of whose floors anything is known, by name."""
        return sorted(self._offers)

    def state(self, pool: str) -> FloorState:
        newest = self._newest.get(pool)
        return FloorState(pool) if newest is None else read(pool, newest.offset.sequence, newest.body)

    def offers(self, pool: str) -> list[Offer]:
        """Return the offers that are open, oldest first."""
        newest = self._newest.get(pool)
        found = [o for o in self._offers.get(pool, {}).values() if newest is None or newest.offset <= o.at]
        return sorted(found, key=lambda offer: offer.offset)


def open_until_ms(offers: Iterable[Offer]) -> int:
    """Return the last of their deadlines (milliseconds since 1970), 0 where there is none."""
    return max((offer.deadline or 0 for offer in offers), default=0)


def _offer(event: Event, body: Mapping[str, Any]) -> Offer | None:
    at, note, deadline_ms = body.get("floor"), body.get("note"), body.get("deadline_ms")
    if type(at) is not int:
        return None  # nobody could accept it
    return Offer(
        event.id,
        event.actor,
        body.get("to"),
        note if isinstance(note, str) else None,
        event.ts + deadline_ms if type(deadline_ms) is int else None,
        event.offset,
        Offset(event.offset.segment, at),
    )
