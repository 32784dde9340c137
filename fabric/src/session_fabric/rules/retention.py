"""How long what sessions hold is kept: what may be said about it, and when it is due. Pure: `now` comes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from session_fabric.words.errors import InvalidRequest

INHERIT: Final = "inherit"
# About 30 years.
_MOST_S: Final = 1_000_000_000
_Age = Annotated[int, Field(strict=True, ge=60, le=_MOST_S)]
_Size = Annotated[int, Field(strict=True, ge=1, le=10**15)]
# A session whose size has a limit is looked at so often: more seldom while nothing is stored in it.
SIZE_LOOK_MS: Final = 60_000
SELDOM_MS: Final = 3_600_000
_SOON_MS: Final = 1_000

Given = Mapping[str, int | None]


class Retention(BaseModel):
    """What is kept of a session, and for how long; None: without a limit.

    `max_age_s`: events older than this are removed. `max_events`, `max_bytes`: the newest ones that are kept.
    `max_idle_s`: the session is deleted when nothing was stored for so long; `closed_s`: so long after it was closed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_age_s: _Age | None = None
    max_events: _Size | None = None
    max_bytes: _Size | None = None
    max_idle_s: _Age | None = None
    closed_s: Annotated[int, Field(strict=True, ge=0, le=_MOST_S)] | None = None

    @property
    def sizes(self) -> bool:
        return self.max_events is not None or self.max_bytes is not None

    @property
    def trims(self) -> bool:
        """Say whether events may have to go while the session stays."""
        return self.max_age_s is not None or self.sizes

    @property
    def says_anything(self) -> bool:
        return self != NOTHING


NOTHING: Final = Retention()
FIELDS: Final = tuple(Retention.model_fields)


def changed(given: Given, changes: Mapping[str, Any]) -> dict[str, int | None]:
    """Return what is said after some changes: a number, None for no limit, "inherit" for what the tenant's says.

    Raises `InvalidRequest` that names the wrong field.
    """
    new: dict[str, int | None] = dict(given)
    for field, value in changes.items():
        if field not in FIELDS:
            raise InvalidRequest(
                f"Retention has no field {field!r:.80}.", hint=f"Its fields are {', '.join(FIELDS)}.", field=field[:80]
            )
        if value == INHERIT:
            new.pop(field, None)
        else:
            new[field] = value
    try:
        Retention.model_validate(new)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = str(first["loc"][0])
        raise InvalidRequest(
            f"{field} is {first['input']!r:.80}: {first['msg'][:1].lower()}{first['msg'][1:]:.200}.",
            hint="Ages are whole seconds, at least 60; None is no limit.",
            field=field,
        ) from error
    return new


def effective(tenant: Given, session: Given) -> Retention:
    """Return what holds for a session: what is said of it, else what is said of its tenant."""
    said = {field: value for field, value in {**tenant, **session}.items() if field in FIELDS}
    return Retention.model_validate(said)


class Facts(NamedTuple):
    """What is known of a session since it was looked at. Times are milliseconds since 1970.

    `newest_ms`: its newest event; `oldest_ms`: the oldest that is left, None where that was not looked for. `quiet`:
    how many looks in a row have found nothing new.
    """

    newest_ms: int
    oldest_ms: int | None = None
    quiet: int = 0


State = Literal["open", "closed", "deleted"]


def delete_at_ms(retention: Retention, state: State, newest_ms: int) -> int | None:
    """Return when a session is to be deleted as a whole, as far as is known; None: never."""
    limits = [retention.max_idle_s, retention.closed_s if state == "closed" else None]
    due = [newest_ms + limit * 1000 for limit in limits if limit is not None]
    return min(due, default=None)


def next_look_ms(retention: Retention, state: State, facts: Facts, now_ms: int) -> int | None:
    """Return when a session has to be looked at (again): never before something may be due. None: never."""
    times = [delete_at_ms(retention, state, facts.newest_ms)]
    if retention.max_age_s is not None:
        oldest = facts.newest_ms if facts.oldest_ms is None else facts.oldest_ms
        times.append(oldest + retention.max_age_s * 1000)
    if retention.sizes:
        times.append(now_ms + min(SIZE_LOOK_MS << min(facts.quiet, 10), SELDOM_MS))
    due = [time for time in times if time is not None]
    return max(min(due), now_ms + _SOON_MS) if due else None
