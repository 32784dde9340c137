"""Every error of the fabric, in one tree.

FabricError
├── InvalidInput            the caller's value is wrong; the same call can never succeed
│   ├── InvalidName         invalid_name
│   ├── InvalidEvent        invalid_event
│   ├── InvalidOffset       invalid_offset
│   ├── InvalidRequest      invalid_request
│   └── TooLarge            too_large
├── Refused                 the value is well formed, the state of the world says no
│   ├── OffsetGone          offset_gone        retention removed it; `resync` says where to go on
│   ├── OffsetForeign       offset_foreign     an offset of another session, or of an earlier life of this one
│   ├── IdConflict          id_conflict        the event id was used with another body
│   ├── RunClosed           run_closed         the run has ended
│   ├── RunFenced           run_fenced         another writer has taken the run over
│   ├── RunExists           run_exists
│   ├── SessionNotFound     session_not_found
│   ├── SessionGone         session_gone       deleted
│   ├── SessionClosed       session_closed
│   ├── SessionExists       session_exists
│   ├── SessionHeld         session_held       a legal hold stands; `by` says whose, and `hold` which
│   ├── HoldNotFound        hold_not_found     no legal hold of that name
│   ├── MessageOpen         message_open       its run is writing it still
│   ├── MessageNotFound     message_not_found  no message of that id
│   ├── EventNotFound       event_not_found    no event of that offset or id
│   ├── Corrupt             corrupt            an export is not what was written; `line` is the first that is wrong
│   ├── Conflict            conflict           compare-and-set lost; carries what is there now
│   ├── AlreadyAnswered     already_answered   somebody was first; `by` and `offset` say who and where
│   ├── AlreadyClaimed      already_claimed    another device is working on it, until `until`
│   ├── RequestClosed       request_closed     its deadline has passed, or its run has ended
│   ├── RequestNotFound     request_not_found
│   ├── RequestExpired      request_expired    nobody answered what a run asked
│   ├── ToolFailed          tool_failed        a client's tool answered with an error
│   ├── NotHolder           not_holder         somebody else has the floor, or nobody; `holder` says who
│   ├── MoveUnderWay        move_under_way     somebody else is changing where sessions are kept, or died at it
│   ├── LeaseLost           lease_lost         this process was taken for dead; what it held is another's
│   ├── StreamNotFound      stream_not_found   no durable stream of that path, or it has expired
│   ├── StreamGone          stream_gone        deleted; forks of it still read what it held
│   ├── StreamExists        stream_exists      there is one with another configuration
│   ├── StreamClosed        stream_closed      it has an end; `offset` is where
│   ├── ContentMismatch     content_mismatch   the content is of another type than the stream's
│   ├── SequenceRegressed   sequence_regressed its writer has been further than this
│   ├── ProducerFenced      producer_fenced    a later epoch of this producer writes; `epoch` is that one
│   ├── ProducerGap         producer_gap       an append before this one is missing; `expected` says which
│   └── LimitExceeded       limit_exceeded
├── Denied                  who is asking
│   ├── Unauthenticated     unauthenticated
│   ├── TokenExpired        token_expired
│   └── Forbidden           forbidden
├── Unavailable             try again: nothing was lost, and a retry with the same id is safe
│   ├── BrokerUnavailable   broker_unavailable
│   ├── NobodyAnswers       nobody_answers     the process that was asked is not there
│   ├── KeysUnavailable     keys_unavailable   what a token was signed with cannot be looked up for now
│   ├── RateLimited         rate_limited       too much in too short a time; `retry_after_ms` says when
│   └── Draining            draining
├── BrokerUnsuitable        an operator has to act
│   ├── BrokerTooOld        broker_too_old
│   ├── BrokerIncompatible  broker_incompatible
│   ├── FormatTooNew        format_too_new     a later version has written what is stored; this one must be upgraded
│   ├── Unreadable          unreadable         one thing that is stored: a later version has written it, or a stranger
│   ├── BrokerRefused       broker_refused
│   └── KeyMissing          key_missing        bodies are sealed, and this process has not got the key
└── LocalTrouble            this machine
    ├── DataDirectoryInUse       data_directory_in_use
    ├── DataDirectoryUnusable    data_directory_unusable
    ├── PortBusy                 port_busy
    ├── BrokerMissing            broker_missing
    └── ExtraMissing             extra_missing
"""

from __future__ import annotations

from typing import Any, ClassVar


class FabricError(Exception):
    """An error with a stable `code`, whether a retry can help, and what to do about it.

    `facts` are the values from which the sentence was built; they go into the wire's error
    frame and into logs, so nothing that was said in a session may be among them.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidInput(FabricError):
    code = "invalid_request"


class InvalidName(InvalidInput):
    code = "invalid_name"


class InvalidEvent(InvalidInput):
    code = "invalid_event"


class InvalidOffset(InvalidInput):
    code = "invalid_offset"


class InvalidRequest(InvalidInput):
    code = "invalid_request"


class TooLarge(InvalidInput):
    code = "too_large"


class Refused(FabricError):
    code = "refused"


class OffsetGone(Refused):
    """Retention removed events after the offset; `facts["resync"]` is the first offset to go on from."""

    code = "offset_gone"


class OffsetForeign(Refused):
    code = "offset_foreign"


class IdConflict(Refused):
    """The id is taken by another body; `facts["offset"]` is where."""

    code = "id_conflict"


class RunClosed(Refused):
    code = "run_closed"


class RunFenced(Refused):
    code = "run_fenced"


class RunExists(Refused):
    code = "run_exists"


class SessionNotFound(Refused):
    code = "session_not_found"


class SessionGone(Refused):
    code = "session_gone"


class SessionClosed(Refused):
    code = "session_closed"


class SessionExists(Refused):
    code = "session_exists"


class SessionHeld(Refused):
    """Nothing is removed while a legal hold stands; `facts["hold"]` is its name, `facts["by"]` who placed it."""

    code = "session_held"


class HoldNotFound(Refused):
    code = "hold_not_found"


class MessageOpen(Refused):
    code = "message_open"


class MessageNotFound(Refused):
    code = "message_not_found"


class EventNotFound(Refused):
    code = "event_not_found"


class Corrupt(Refused):
    """A file is not what was written; `facts["line"]` is the first line that is wrong."""

    code = "corrupt"


class Conflict(Refused):
    """A compare-and-set lost; `facts["revision"]` is what is there now (0: nothing).

    `current` is the value itself, where it is known: for who asked, never for a log.
    """

    code = "conflict"

    def __init__(self, message: str, *, hint: str = "", current: Any = None, **facts: Any) -> None:
        super().__init__(message, hint=hint, **facts)
        self.current = current


class AlreadyAnswered(Refused):
    code = "already_answered"


class AlreadyClaimed(Refused):
    """Another device works on the request; `facts["by"]`, until `facts["until"]` (milliseconds since 1970)."""

    code = "already_claimed"


class RequestClosed(Refused):
    """Nobody can answer any more; `facts["outcome"]` is the event that closed it."""

    code = "request_closed"


class RequestNotFound(Refused):
    code = "request_not_found"


class RequestExpired(Refused):
    """Nobody answered what a run asked; `facts["reason"]`: `deadline` or `run_ended`."""

    code = "request_expired"


class ToolFailed(Refused):
    """A client's tool answered a run with an error; `error` is what it said: for the run, never for a log."""

    code = "tool_failed"

    def __init__(self, message: str, *, error: str = "", hint: str = "", **facts: Any) -> None:
        super().__init__(message, hint=hint, **facts)
        self.error = error


class NotHolder(Refused):
    """Only who has the floor may; `facts["holder"]` has it now (None: nobody)."""

    code = "not_holder"


class MoveUnderWay(Refused):
    code = "move_under_way"


class LeaseLost(Refused):
    code = "lease_lost"


class StreamNotFound(Refused):
    code = "stream_not_found"


class StreamGone(Refused):
    code = "stream_gone"


class StreamExists(Refused):
    code = "stream_exists"


class StreamClosed(Refused):
    """The stream has an end: `facts["offset"]`."""

    code = "stream_closed"


class ContentMismatch(Refused):
    code = "content_mismatch"


class SequenceRegressed(Refused):
    code = "sequence_regressed"


class ProducerFenced(Refused):
    """A later epoch of the same producer writes: `facts["epoch"]`."""

    code = "producer_fenced"


class ProducerGap(Refused):
    """`facts["expected"]` is the sequence that comes next, `facts["received"]` the one that came."""

    code = "producer_gap"


class LimitExceeded(Refused):
    code = "limit_exceeded"


class Denied(FabricError):
    code = "forbidden"


class Unauthenticated(Denied):
    code = "unauthenticated"


class TokenExpired(Denied):
    code = "token_expired"


class Forbidden(Denied):
    code = "forbidden"


class Unavailable(FabricError):
    code = "unavailable"
    retryable = True


class BrokerUnavailable(Unavailable):
    code = "broker_unavailable"


class NobodyAnswers(Unavailable):
    code = "nobody_answers"


class KeysUnavailable(Unavailable):
    """Whether a token is valid cannot be said: its key is not at hand, and where keys come from does not answer."""

    code = "keys_unavailable"


class RateLimited(Unavailable):
    """Too much in too short a time, of `of` by `scope`: at most `per_s`. Try again after `retry_after_ms`."""

    code = "rate_limited"


class Draining(Unavailable):
    code = "draining"


class BrokerUnsuitable(FabricError):
    code = "broker_unsuitable"


class BrokerTooOld(BrokerUnsuitable):
    code = "broker_too_old"


class BrokerIncompatible(BrokerUnsuitable):
    code = "broker_incompatible"


class FormatTooNew(BrokerUnsuitable):
    """What is stored is of `format`, by `version`; this process knows formats below `min_reader` alone."""

    code = "format_too_new"


class Unreadable(BrokerUnsuitable):
    code = "unreadable"


class BrokerRefused(BrokerUnsuitable):
    """The broker answered with an error that no retry will mend (permissions, limits, account)."""

    code = "broker_refused"


class KeyMissing(BrokerUnsuitable):
    code = "key_missing"


class LocalTrouble(FabricError):
    code = "local_trouble"


class DataDirectoryInUse(LocalTrouble):
    code = "data_directory_in_use"


class DataDirectoryUnusable(LocalTrouble):
    code = "data_directory_unusable"


class PortBusy(LocalTrouble):
    code = "port_busy"


class BrokerMissing(LocalTrouble):
    code = "broker_missing"


class ExtraMissing(LocalTrouble):
    code = "extra_missing"
