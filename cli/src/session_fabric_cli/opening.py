"""The way to a running broker: `async with opened(options) as fabric`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, NamedTuple

from session_fabric import Credentials, Fabric, Keys
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.credentials import tls_of
from session_fabric.ports import Broker
from session_fabric.sealed import SealedBroker
from session_fabric.words.errors import Forbidden, InvalidRequest

from session_fabric_cli import lean
from session_fabric_cli.dev.places import find_running
from session_fabric_cli.failing import say
from session_fabric_cli.options import NO_BROKER, Options
from session_fabric_cli.versions import Note, of_mark

PARTICIPANT: Final = "operator:fabricctl"


class Reached(NamedTuple):
    """A broker, and how to introduce oneself there; None: not at all."""

    url: str
    credentials: Credentials | None


def reach(options: Options) -> Reached:
    """Return the broker that the options name, else that of a development server that runs.

    The credentials of one that runs are known. Raises `InvalidRequest`.
    """
    given = _given(options)
    running = None
    if options.nats is None or given is None:
        running = find_running(at=options.nats)
    if running is not None and given is None:
        given = Credentials.read(running.nats_credentials)
    url = options.nats or (running.nats if running is not None else None)
    if url is None and given is not None and given.granted is not None:
        url = given.granted.now().url
    if url is None:
        said, hint = NO_BROKER
        raise InvalidRequest(said, hint=hint)
    if url.startswith("ws"):
        lean.with_websocket()
    return Reached(url, given)


def granted_at(options: Options) -> bool:
    """Say whether the credentials are a participant's, who sees what its token grants and nothing else."""
    credentials = reach(options).credentials
    return credentials is not None and credentials.granted is not None


@asynccontextmanager
async def opened(
    options: Options,
    *,
    provision: bool = False,
    streams: int | None = None,
    replicas: int | None = None,
    again: bool = False,
) -> AsyncIterator[Fabric]:
    """Connect to the broker of a command, in the name of `operator:fabricctl`, for as long as the block lasts.

    With credentials that were granted a participant: in that one's name, and with its rights alone. `again`: what
    differs in version was told. Raises what
    `Fabric.connect` raises, within `options.timeout_s`.
    """
    at = reach(options)
    granted = at.credentials is not None and at.credentials.granted is not None
    said = "tenant" in options.sources
    connecting = Fabric.connect(
        at.url,
        credentials=at.credentials,
        tenant=options.tenant if said or not granted else None,
        participant=None if granted else PARTICIPANT,
        provision=provision,
        streams=streams,
        replicas=replicas,
        name="fabricctl",
        keys=None if options.keys is None else Keys.read(options.keys),
        timeout_s=options.timeout_s,
    )
    async with connecting as fabric:
        if not again:
            _tell_mark(fabric.broker)
        yield fabric


def check_operator(at: Reached) -> None:
    """Raise `Forbidden` for credentials that only let one ask."""
    if at.credentials is not None and at.credentials.granted is not None:
        raise Forbidden(
            f"These credentials are of {at.credentials.granted.now().participant}, who has no rights at the broker.",
            hint="Name those of the fabric's own processes: `fabric.nk` of `fabricctl broker config`.",
        )


@asynccontextmanager
async def operated(
    options: Options, *, provisioned: bool = True, again: bool = False
) -> AsyncIterator[JetStreamBroker]:
    """Connect to the broker itself, for what only its operators may: it takes rights there.

    `provisioned` False: whatever is there, or is not. `again`: what differs in version was told, or will be. Raises
    `Forbidden` for credentials that only let one ask.
    """
    at = reach(options)
    check_operator(at)
    broker = await JetStreamBroker.connect(
        at.url,
        provision=False,
        look=provisioned,
        name="fabricctl",
        credentials=at.credentials,
        timeout_s=options.timeout_s,
    )
    try:
        if provisioned and not again:
            _tell_mark(broker)
        yield broker
    finally:
        await broker.close()


def tell(note: Note | None) -> None:
    """Say on stderr what differs in version; stdout is for what was asked for."""
    if note is not None:
        say(note.say, note.do)


def _tell_mark(broker: Broker) -> None:
    while isinstance(broker, SealedBroker):
        broker = broker.below
    if isinstance(broker, JetStreamBroker):
        tell(of_mark(broker.topology.mark))


def _given(options: Options) -> Credentials | None:
    tls = tls_of(options.ca, options.cert, options.key)
    if options.credentials is None:
        shown = Credentials.of_environment()  # a user and a password
        if shown is None or tls is None:
            return shown if tls is None else Credentials(tls=tls)
        return replace(shown, tls=tls)
    read = Credentials.read(options.credentials)
    return read if tls is None else replace(read, tls=tls)
