"""The rights of one participant: to write as itself, where its token says so, and to see what its token says.

Everything that is not known here is refused. What a participant stores under its own name in a session in which it
may append is believed as far as anybody's: its own name stands beside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self

import orjson

from session_fabric.leases import GATEWAYS
from session_fabric.ports import Guard, Stretch, Wanted
from session_fabric.records import Directory, SessionRecord, gone, stretch_of
from session_fabric.relay.changes import needed_for_change, needed_for_new
from session_fabric.relay.checks import check_spelling, object_of, tokens_of
from session_fabric.relay.rights import Span
from session_fabric.rules.bounds import check_labels, check_participants, check_shares
from session_fabric.rules.controls import actions_of
from session_fabric.rules.grants import Grants
from session_fabric.rules.permissions import is_stamped
from session_fabric.rules.routing import authorize, is_reserved
from session_fabric.words.errors import Conflict, Forbidden, InvalidEvent, InvalidRequest, SessionGone
from session_fabric.words.events import (
    CONTROL_REQUESTED,
    CURSOR_MOVED,
    EVENT_REDACTED,
    INPUT_ANSWERED,
    INPUT_EXPIRED,
    MESSAGE_REDACTED,
    POOL_RUNG,
    PRESENCE_JOINED,
    PRESENCE_LEFT,
    PRESENCE_UPDATED,
    RUN_ENDS,
    SESSION_CLOSED,
    SESSION_FORKED,
    SESSION_PARTICIPANTS,
    SESSION_POLICY,
    TOOL_ANSWERED,
    TOOL_CLAIMED,
    TOOL_EXPIRED,
    WHISPER,
    Draft,
)
from session_fabric.words.names import check_id, check_session, escape
from session_fabric.words.subjects import Place, inbox_prefix
from session_fabric.words.wire import SEALED

# What an agent's process does on the fabric's behalf, and is the fabric's to say: that there is work, that what a run
# had asked for has ended with it.
_FABRICS: Final = frozenset({POOL_RUNG, INPUT_EXPIRED, TOOL_EXPIRED})
_SERVICE: Final = "service:fabric"
_NEEDED: Final = {
    WHISPER: "supervise",
    INPUT_ANSWERED: "answer",
    TOOL_ANSWERED: "answer",
    TOOL_CLAIMED: "answer",
    CURSOR_MOVED: "cursor",
    PRESENCE_JOINED: "presence",
    PRESENCE_UPDATED: "presence",
    PRESENCE_LEFT: "presence",
    SESSION_FORKED: "create",
    SESSION_POLICY: "policy",
    SESSION_CLOSED: "policy",
    SESSION_PARTICIPANTS: "invite",
    MESSAGE_REDACTED: "redact",
    EVENT_REDACTED: "redact",
}
# Buckets whose keys begin with tenant and session, and who may see an entry: whoever is granted one of these.
_OF_SESSIONS: Final = {
    "sf-sessions": ("read",),
    "sf-presence": ("read",),
    "sf-cursors": ("read",),
    "sf-state": ("read",),
    # And who is to remove them, and to say that nothing is left.
    "sf-dead": ("append", "erase"),
    "sf-checkpoints": ("append", "erase", "redact"),
}


# What one may write down of what one does to sessions, and the operations that let one do it, each by itself.
_ACTS: Final = {
    "dead_letter.dropped": ("append", "erase"),
    "dead_letter.retried": ("append",),
    "session.deleted": ("erase",),
    "session.retention": ("erase",),
    "session.redacted": ("redact",),
    "session.held": ("hold",),
    "session.released": ("hold",),
    "session.exported": ("export",),
}


class Own:
    """See `relay.rights.Rights`."""

    def __init__(
        self,
        tenant: str,
        participant: str,
        grants: Grants,
        directory: Directory,
        look_again: Callable[[], Awaitable[Grants]] | None = None,
    ) -> None:
        """`look_again`: what the token grants by then; raises where it counts no more. None: it goes on to count."""
        self._look_again = look_again
        self._tenant = tenant
        self._participant = participant
        self._grants = grants
        self._directory = directory
        self._checks: dict[str, Callable[[list[str], bytes], str | None]] = {
            "sf-presence": self._presence,
            "sf-cursors": self._cursor,
            "sf-state": self._document,
            "sf-dead": lambda _, __: "append",
            "sf-checkpoints": lambda _, __: "append",
        }

    @property
    def owner(self) -> str:
        return f"{self._tenant} {self._participant}"

    @property
    def participant(self) -> str:
        return self._participant

    @property
    def tenant(self) -> str:
        return self._tenant

    @property
    def inbox(self) -> str:
        return inbox_prefix(self._tenant, self._participant)

    def _no(self, what: str, session: str | None = None, operation: str | None = None) -> Forbidden:
        where = "" if session is None else f" in session {session!r:.140}"
        facts = {} if session is None or operation is None else {"operation": operation, "session": session[:140]}
        return Forbidden(
            f"{self._participant} may not {what}{where}.",
            hint="Its token does not grant it: see `fabricctl agent inspect` of its file, or `token inspect`."
            if facts
            else "No token grants that: it takes rights at the broker (`fabricctl broker config`).",
            participant=self._participant,
            **facts,
        )

    def _may(self, place: Place, operation: str) -> None:
        check_session(place.session)
        if place.tenant != self._tenant or not self._grants.allows(place.session, operation):
            if place.tenant != self._tenant:
                raise self._no(operation)
            raise self._no(operation, place.session, operation)

    async def _record(self, place: Place, *, fresh: bool = False) -> SessionRecord | None:
        found = await self._directory.find(place, fresh=fresh)
        return None if found is None else found[0]

    async def renew(self) -> Self:
        if self._look_again is None:
            return self
        grants = await self._look_again()
        return type(self)(self._tenant, self._participant, grants, self._directory, self._look_again)

    # --- logs ---------------------------------------------------------------------------------------

    async def read(self, to: Stretch, via: str) -> Span:
        place = Place(self._tenant, via)
        self._may(place, "read")
        record, span = await self._part(to, place)
        # Kept for its forks, which read it as theirs; whoever removes it looks what is left of it.
        if record is not None and record.state == "deleted" and not self._grants.allows(via, "erase"):
            raise gone(record)
        return span

    async def _part(self, to: Stretch, of: Place) -> tuple[SessionRecord | None, Span]:
        """Return how much of this stretch is a session's. Raises `Forbidden` for any other stream."""
        record = None
        for fresh in (False, True):
            record = await self._record(of, fresh=fresh)
            for segment in () if record is None else record.segments:
                if stretch_of(segment) == to:
                    return record, Span(segment.after, segment.upto)
            if to.place == of and to.home == await self._directory.home(of):
                return record, Span(0, None)  # of one that is about to be made, or has just gone, there is no record
        raise self._no("read or remove what is no part of it", of.session)

    async def publish(self, to: Stretch, draft: Draft, guard: Guard | None) -> None:
        for operation in self._needed(draft):
            self._may(to.place, operation)
        check_spelling(draft, guard)
        for fresh in (False, True):
            record = await self._record(to.place, fresh=fresh)
            if record is not None and record.state != "deleted" and record.stretch == to:
                return
        raise SessionGone(
            f"Session {to.place.session!r} is not what it was when this was written.", hint="Look at it again."
        )

    def _needed(self, draft: Draft) -> list[str]:
        """Return all that an event's writer has to be granted. Raises `Forbidden` for another's name."""
        wanted = _SERVICE if draft.type in _FABRICS else self._participant
        if (draft.actor, draft.writer) not in ((wanted, wanted), (self._participant, self._participant)):
            raise self._no(f"write as {draft.actor[:140]!r}")
        sealed = SEALED in draft.headers
        body: Any = None
        if not sealed:
            try:
                body = orjson.loads(draft.body)
            except orjson.JSONDecodeError as error:
                raise InvalidEvent("An event's body is not JSON.", hint="Use the SDK.") from error
        if draft.type == CONTROL_REQUESTED:
            action = body.get("action") if isinstance(body, dict) else "*"
            return [f"control:{action}"]
        if draft.type in RUN_ENDS and self._role not in ("agent", "service"):
            return ["handoff"]  # whoever takes the floor ends what is under way
        if not is_reserved(draft.type):
            authorize(draft.type, self._role)
        if draft.type.startswith("handoff."):
            return ["handoff"]
        actions = actions_of(body)
        if "redirect" in actions:  # the message that goes with that control, which may be all that was granted
            return ["control:redirect"]
        return [_NEEDED.get(draft.type, "append"), *(f"control:{action}" for action in actions)]

    @property
    def _role(self) -> str:
        return self._participant.partition(":")[0]

    async def purge(self, to: Stretch, wanted: Wanted | None) -> None:
        # What has been said whole by a run that has ended: its deltas.
        self._may(to.place, "append" if wanted is not None and wanted.kind == "tok" and wanted.name else "erase")
        await self._part(to, to.place)

    async def redact(self, to: Stretch) -> None:
        self._may(to.place, "redact")
        await self._part(to, to.place)

    def enter(self, place: Place) -> None:
        self._may(place, "read")

    def erase(self, place: Place) -> None:
        self._may(place, "erase")

    def signal(self, place: Place, data: bytes) -> None:
        told = object_of(data)
        self._may(place, "cursor" if told.get("op") == "cursor" else "signal")
        fields = told.get("fields")
        if not isinstance(fields, dict) or fields.get("actor") != self._participant:
            raise self._no("signal as another", place.session)

    def work(self, tenant: str, name: str, place: Place | None) -> None:
        check_id(name, "subscription")
        if tenant != self._tenant:
            raise self._no("work for another tenant")
        if place is not None:
            self._may(place, "read")
        elif not any(pattern == ("", True) for pattern in self._grants.patterns_for("read")):
            raise self._no("work on all sessions of its tenant")

    # --- buckets ------------------------------------------------------------------------------------

    def look(self, bucket: str, key: str) -> None:
        if not self.sees(bucket, key):
            tokens = tokens_of(key)
            if bucket in _OF_SESSIONS and len(tokens) > 1 and tokens[0] == self._tenant:
                self._may(Place(*tokens[:2]), _OF_SESSIONS[bucket][0])
            raise self._no(f"look at this in {bucket}")

    def sees(self, bucket: str, key: str) -> bool:
        tokens = tokens_of(key)
        if bucket in _OF_SESSIONS:
            if len(tokens) < 2 or tokens[0] != self._tenant:
                return False
            return any(self._grants.allows(tokens[1], operation) for operation in _OF_SESSIONS[bucket])
        if bucket == "sf-leases":
            return len(tokens) == 2 and tokens[0] in (self._tenant, GATEWAYS)
        if bucket == "sf-tenants":
            return tokens == [self._tenant]  # how long what one says is kept is no secret
        return bucket == "sf-claims" and self._holds(tokens)

    def within(self, bucket: str, prefix: str) -> Sequence[str]:
        if bucket == "sf-audit":
            raise self._no("look at what was done in its tenant")  # an audit without it would seem to be whole
        if bucket == "sf-claims":
            if not prefix or not is_stamped(tokens_of(prefix)[0], self._tenant, self._participant):
                raise self._no("look at what others hold")
            return (prefix,)
        if not prefix:
            everything = [escape(self._tenant)]
            return [*everything, escape(GATEWAYS)] if bucket == "sf-leases" else everything
        if tokens_of(prefix)[0] != self._tenant:
            raise self._no(f"look at this in {bucket}")
        return (prefix,)

    async def write(self, bucket: str, key: str, value: bytes, revision: int | None) -> None:
        tokens = tokens_of(key)
        if bucket == "sf-sessions" and len(tokens) == 2 and revision is not None:
            return await self._write_record(Place(*tokens), value, revision)
        if bucket == "sf-leases" and len(tokens) == 2:
            if tokens[0] == self._tenant and is_stamped(tokens[1], *self._me) and value == b"{}":
                return None
        elif bucket == "sf-audit" and len(tokens) == 3 and tokens[0] == self._tenant and revision is None:
            told = object_of(value)
            operations = _ACTS.get(str(told.get("act")))
            if operations is not None and told.get("by") == self._participant:
                granted = [each for each in operations if self._grants.allows(tokens[1], each)]
                return self._may(Place(*tokens[:2]), (*granted, *operations)[0])
        elif bucket == "sf-claims":
            if self._holds(tokens) and object_of(value).get("agent", self._participant) == self._participant:
                return self._may(Place(*tokens[1:3]), "append")
        elif bucket in self._checks and len(tokens) > 2:
            needed = self._checks[bucket](tokens, value)
            if needed is not None:
                return self._may(Place(*tokens[:2]), needed)
        raise self._no(f"write this in {bucket}")

    def remove(self, bucket: str, key: str) -> None:
        tokens = tokens_of(key)
        if bucket == "sf-leases" and len(tokens) == 2:
            if tokens[0] == self._tenant and is_stamped(tokens[1], *self._me):
                return None
        elif bucket == "sf-claims":
            if self._holds(tokens):
                return self._may(Place(*tokens[1:3]), "append")
        elif bucket in _OF_SESSIONS and len(tokens) >= 2:
            place = Place(*tokens[:2])
            removing = ("erase", "redact") if bucket == "sf-checkpoints" else ("erase",)
            if place.tenant == self._tenant and any(self._grants.allows(place.session, each) for each in removing):
                return None
            if bucket in ("sf-dead", "sf-checkpoints"):
                return self._may(place, "append")
            mine = len(tokens) > 2 and tokens[2] == self._participant
            if bucket == "sf-presence" and mine and len(tokens) == 5 and is_stamped(tokens[4], *self._me):
                return self._may(place, "presence")
            if bucket == "sf-cursors" and mine:
                return self._may(place, "cursor")
        raise self._no(f"remove this from {bucket}")

    @property
    def _me(self) -> tuple[str, str]:
        return self._tenant, self._participant

    def _holds(self, tokens: list[str]) -> bool:
        """Say whether a key of what processes hold is of one of ours, in our tenant."""
        return len(tokens) == 5 and is_stamped(tokens[0], *self._me) and tokens[1] == self._tenant

    def _presence(self, tokens: list[str], value: bytes) -> str | None:
        shown = object_of(value)
        mine = len(tokens) == 5 and tokens[2] == self._participant == shown.get("participant")
        mine = mine and tokens[3] == shown.get("device") and is_stamped(tokens[4], *self._me)
        return "presence" if mine and shown.get("gateway") is False else None

    def _cursor(self, tokens: list[str], value: bytes) -> str | None:
        return "cursor" if len(tokens) == 4 and tokens[2] == self._participant else None

    def _document(self, tokens: list[str], value: bytes) -> str | None:
        # Of what is sealed nobody here can say by whom it says it is: it opens to the tenant's own alone.
        said = value[:1] != b"{" or object_of(value).get("by") == self._participant
        return f"state:{tokens[2]}" if len(tokens) == 3 and said else None

    async def _write_record(self, place: Place, value: bytes, revision: int) -> None:
        """Look at what becomes of a session's record: who may change what of it, and that it stays in its tenant."""
        try:
            new = SessionRecord.model_validate_json(value)
        except ValueError as error:
            raise InvalidRequest("This is no session's record.", hint="Use the SDK.") from error
        if new.place != place:
            raise self._no("write a record under another name")
        # First what it may: to all others nothing is said of what there is, and how it is kept.
        if not self.sees("sf-sessions", place.key()):
            self._may(place, "create")
        found = await self._directory.find(place, fresh=True)
        if (0 if found is None else found[1]) != revision:
            raise Conflict(
                f"The record of session {place.session!r} is not at revision {revision}.",
                hint="Read it again and decide anew.",
                revision=0 if found is None else found[1],
            )
        if found is None:
            source = None
            if new.source is not None:
                self._may(Place(self._tenant, new.source), "read")
                source = await self._record(Place(self._tenant, new.source), fresh=True)
            home = await self._directory.home(place)
            end = None if source is None else await self._directory.end(source)
            needed = needed_for_new(new, source, home, self._participant, end)
        else:
            needed = needed_for_change(found[0], new)
        for operation in needed:
            self._may(place, operation)
        if found is None and new.sealed is None:
            await self._directory.check_open(place.tenant)
        check_labels(new.labels)
        check_shares(len(new.forks), len(new.segments))
        check_participants(new.participants)
