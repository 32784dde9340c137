"""What the broker lets a native agent do: ask the fabric under its own name, and hear what is told of its sessions.

Everything else is refused by the broker itself. Two things are left out on purpose, and must stay so
(docs/adr/0013-agents-ask-a-service.md, tests/security/test_native_rights.py):

- **Subjects that a stream stores.** What the broker answers goes to whatever reply subject a publisher names, into
  another tenant's log too; headers ask after others' subjects, and take others' ids.
- **`allow_responses`.** Who hears what it has itself published, with `$JS.API…` for a reply, may publish there then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from session_fabric.rules.grants import Grants
from session_fabric.words.errors import Forbidden, InvalidRequest
from session_fabric.words.names import check_participant, check_session, check_tenant
from session_fabric.words.subjects import (
    ANSWERS,
    STAMP,
    Place,
    answers_prefix,
    calls_among,
    calls_to,
    heard_of_session,
    heard_of_tenant,
    inbox_prefix,
    service_subject,
    stamp_of,
)

# What sessions' followers watch. Leases and claims are the fabric's own affair, tickets and revocations gateways'.
BUCKETS: Final = ("sf-sessions", "sf-state", "sf-presence", "sf-cursors")
# Whose news one connection may hear by name: each takes ten subjects, which the server looks through at each
# subscription.
MOST_SESSIONS: Final = 100
ROLES: Final = frozenset({"agent", "service", "operator", "supervisor"})


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects that a NATS user may publish to and subscribe to, and nothing beside; its inboxes begin with `inbox`."""

    publish_allow: tuple[str, ...]
    subscribe_allow: tuple[str, ...]
    inbox: str


def permissions(
    tenant: str, participant: str, holder: str | None = None, sessions: Sequence[str] | Literal["*"] = "*"
) -> Permissions:
    """Return the rights of a participant's processes, or of the one process `holder`.

    `sessions`: whose news it hears, by exact names, or `"*"` for all of the tenant's; what it may read and write is
    the service's to say (`rules.grants`). Raises `InvalidName`, `InvalidRequest`, `Forbidden` for a user.
    """
    check_tenant(tenant)
    check_native(check_participant(participant))
    stamp = stamp_of(tenant, participant)
    if holder is not None and (len(holder) != 20 or not holder.isalnum() or not holder.startswith(stamp)):
        raise InvalidRequest(
            f"{holder!r:.40} is not a holder of {participant!r}.",
            hint=f"A holder has 20 letters and digits; its begin with {stamp!r}.",
            holder=holder[:40],
        )
    inbox = inbox_prefix(tenant, participant)
    if sessions == "*":
        heard = heard_of_tenant(tenant, BUCKETS)
    else:
        places = [Place(tenant, check_session(session)) for session in sessions]
        heard = [subject for place in places for subject in heard_of_session(place, BUCKETS)]
    return Permissions(
        publish_allow=(service_subject(tenant, participant, ">"), calls_among(tenant), f"{ANSWERS}*.*"),
        subscribe_allow=(f"{inbox}.>", f"{answers_prefix(stamp)}.*", calls_to(stamp, holder), *heard),
        inbox=inbox,
    )


class Heard(NamedTuple):
    """Whose news a token's grants let one hear at the broker: exact names, or `"*"`.

    `unheard`: patterns that cannot be said to the broker, which has no prefixes of names; there the fabric is asked.
    """

    sessions: tuple[str, ...] | str
    unheard: tuple[str, ...]


def heard_by(grants: Grants) -> Heard:
    """Return what of the grants the broker can be told."""
    patterns = grants.patterns_for("read")
    if any(pattern.prefix and not pattern.text for pattern in patterns):
        return Heard("*", ())
    names = tuple(pattern.text for pattern in patterns if not pattern.prefix and pattern.text not in grants.without)
    globs = tuple(str(pattern) for pattern in patterns if pattern.prefix)
    return Heard(names[:MOST_SESSIONS], globs + names[MOST_SESSIONS:])


def check_native(participant: str) -> str:
    """Return a participant that may have rights at the broker. Raises `Forbidden` for a user."""
    role = participant.partition(":")[0]
    if role not in ROLES:
        raise Forbidden(
            f"{participant!r:.140} comes through a gateway: it gets no rights at the broker.",
            hint=f"Native are {', '.join(sorted(ROLES))}.",
            participant=participant,
        )
    return participant


def is_stamped(holder: str, tenant: str, participant: str) -> bool:
    """Say whether a holder is one of a participant's own."""
    return len(holder) == 20 and holder[:STAMP] == stamp_of(tenant, participant)
