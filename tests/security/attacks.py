"""What somebody with a valid token of one tenant tries against another tenant, and against his own tenant's sessions
that are not his. docs/attacks.md has the same table; `test_list.py` holds the two together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])


class Attack(NamedTuple):
    """`tries`: what the attacker does; `must`: what must happen, besides that nothing of the victim's changes or is
    told."""

    id: str
    tries: str
    must: str


ATTACKS: Final = (
    Attack(
        "N1",
        "names with `*`, `>`, dots, escapes, slashes, nulls, other scripts' letters, over-long ones",
        "`invalid_name`, or no such path",
    ),
    Attack(
        "N2",
        "names that mean another tenant if pasted into a subject",
        "`invalid_name`; what is a name is his own tenant's",
    ),
    Attack(
        "N3",
        "such names for documents, devices, runs, requests, participants, pools",
        "`invalid_name`",
    ),
    Attack(
        "N4",
        "another tenant by header, query, body or frame",
        "`invalid_request`, or no effect",
    ),
    Attack(
        "O1",
        "the victim's offsets: to read, page, stream, poll, fork, move a cursor, retry with",
        "`offset_foreign`",
    ),
    Attack(
        "O2",
        "offsets that are none, or in other scripts' digits",
        "`invalid_offset`",
    ),
    Attack(
        "F1",
        "a fork of the victim's session",
        "`session_not_found`; `forbidden` in his own tenant",
    ),
    Attack(
        "F2",
        "a fork in place of the victim's session",
        "`session_exists`; `forbidden` where its name is not granted",
    ),
    Attack(
        "I1",
        "the victim's event ids, before and after him, in a session of the same name",
        "both events are stored",
    ),
    Attack(
        "B1",
        "`actor`, `role`, `tenant`, `offset`, `ts`, `run` beside what a frame or a body has",
        "`invalid_request`",
    ),
    Attack(
        "B2",
        "`actor`, `role`, `tenant`, `run` within an event's body",
        "stored as said; the actor is the token's",
    ),
    Attack(
        "B3",
        "an event of a type that is not his to write",
        "`forbidden`",
    ),
    Attack(
        "B4",
        "`Sf-Actor`, `Nats-Msg-Id` and other headers of the broker's over HTTP",
        "no effect",
    ),
    Attack(
        "W1",
        "a user reads what is whispered: live, late, in pages, polls, streams, durable streams, messages, "
        "a framework's wire, an export, a fork",
        "it is not there",
    ),
    Attack(
        "R1",
        "the victim's requests, claimed and answered in the victim's session and in his own",
        "`session_not_found`, `forbidden`, `request_not_found`",
    ),
    Attack(
        "R2",
        "a request that is addressed to somebody else",
        "`forbidden`",
    ),
    Attack(
        "C1",
        "a cancel of the victim's run, in the victim's session and in his own",
        "`session_not_found`, `forbidden`; the run goes on",
    ),
    Attack(
        "P1",
        "presence, cursors and documents in another's name",
        "`invalid_request`; else in his own name",
    ),
    Attack(
        "L1",
        "a body or a header that refers to the victim's large body",
        "comes back as it was sent",
    ),
    Attack(
        "T1",
        "a ticket a second time, for another session, in place of a token",
        "`unauthenticated`, `forbidden`",
    ),
    Attack(
        "T2",
        "a cookie from a stranger's page, or for another tenant's session",
        "`unauthenticated`, `session_not_found`",
    ),
    Attack(
        "V1",
        "the victim's session held, released, redacted, kept for a minute, exported: with no grant, or one elsewhere",
        "`forbidden`; `session_not_found`",
    ),
    Attack(
        "V2",
        "a message redacted through a fork that he has made of a session which he may read alone",
        "`invalid_request`; it is there still",
    ),
    Attack(
        "K1",
        "claims of other kinds: lists, objects, numbers, nothing, for tenant, sub, role, sessions",
        "`unauthenticated`",
    ),
    Attack(
        "K2",
        "tenants and participants that look like others",
        "`unauthenticated`",
    ),
    Attack(
        "K3",
        "to go on with a token that was revoked or has ended",
        "4412, 4410; streams end",
    ),
    Attack(
        "K4",
        "`refresh` with another participant's or tenant's token",
        "`forbidden`",
    ),
    Attack(
        "E1",
        "every operation on a session of the victim's tenant, and on one that is nowhere",
        "the same answer, byte for byte",
    ),
    Attack(
        "E2",
        "every operation on a session that his token does not grant, and on one that is nowhere",
        "`forbidden`, byte for byte the same",
    ),
    Attack(
        "E3",
        "the list of sessions, its cursors, metrics, the log",
        "nothing of the victim's",
    ),
    Attack(
        "I2",
        "an id that another participant has used in a session of both, with the same body",
        "`id_conflict`",
    ),
    Attack(
        "I3",
        "ids that the fabric itself will use: of outcomes, of the closing",
        "what it has to say is stored",
    ),
    Attack(
        "I4",
        "sessions of names that collide under a short hash, in the same microsecond",
        "both events are stored",
    ),
    Attack(
        "D1",
        "durable subscriptions whose tenant and name run together to the victim's",
        "each has its own",
    ),
    Attack(
        "M1",
        "to go on in a session that he was removed from: socket, stream, poll",
        "`gone`, `forbidden`",
    ),
    Attack(
        "M2",
        "`refresh` with a token that grants less",
        "`gone`, `forbidden` where it is not granted any more",
    ),
    Attack(
        "M3",
        "to interrupt, steer or redirect a run by a message, with a token that grants no control",
        "`forbidden`",
    ),
    Attack(
        "M4",
        "to make a session that is there, and that he does not take part in",
        "`forbidden`; a new one is as he asked",
    ),
    Attack(
        "S1",
        "a form whose schema has a pattern that takes for ever, unfolds without end, refers to itself or names a "
        "server; it is stored past the SDK, and somebody answers it at a gateway",
        "`invalid_request`; nothing is fetched, the gateway serves on",
    ),
    Attack(
        "G1",
        "to fill a bucket without end at the relay: documents, devices, read markers, dead letters, claims, leases "
        "that never end, durable subscriptions",
        "`limit_exceeded`, `invalid_request`",
    ),
    Attack(
        "X1",
        "paths that other protocols have: streams, subjects, KV, admin, dot segments",
        "`not_found`",
    ),
    Attack(
        "Q1",
        "at the broker: to publish to logs, buckets, JetStream's API, others' services, inboxes and"
        " processes, the system",
        "the broker refuses it",
    ),
    Attack(
        "Q2",
        "at the broker: to hear others' sessions, tenants, inboxes, calls, leases, tickets, "
        "JetStream, the system; in a queue group too",
        "the broker refuses it",
    ),
    Attack(
        "Q3",
        "requests to the relay that no SDK would make: others' sessions, streams, stretches, keys, "
        "blobs, durables, uploads, names, authors, types",
        "refused; what is his own stays his",
    ),
    Attack(
        "Q10",
        "the source of a fork, which he may read, past the fork's point; a fork of more than its source has said; what "
        "was deleted and is kept for forks",
        "nothing of it; `forbidden`, `session_gone`",
    ),
    Attack(
        "Q4",
        "a request whose answer is to go to another's inbox, or into a log",
        "it is not answered",
    ),
    Attack(
        "Q5",
        "to come in with no token, a bad one, another's key, a public key, a password; as a user",
        "not let in, and the log says why and never the token",
    ),
    Attack(
        "Q6",
        "to come in under the name of another's process, so that it is thought dead",
        "not let in",
    ),
    Attack(
        "Q7",
        "to stay when the token has ended, was revoked, or its key was taken away",
        "the connection is cut",
    ),
    Attack(
        "Q8",
        "to answer the broker's question who may come in, or to ask it",
        "refused; not answered",
    ),
    Attack(
        "Q9",
        "more subscriptions than are let",
        "the connection is cut",
    ),
)


def runs(*ids: str) -> Callable[[Test], Test]:
    """Say which attacks a test runs."""
    unknown = set(ids) - {attack.id for attack in ATTACKS}
    assert not unknown, f"no such attacks: {unknown}"
    return lambda test: test
