"""The ways to a broker: to one that runs somewhere, to one of one's own, and by asking the fabric where the broker lets
one do no more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.credentials import Credentials, Granted, check_granted
from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.ports import Broker
from session_fabric.remote.broker import RemoteBroker
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.names import check_tenant
from session_fabric.writer import Identity


class Closing(Protocol):
    async def close(self) -> None: ...


Opened = TypeVar("Opened", bound=Closing)


class Connecting(Generic[Opened]):
    """What `Fabric.connect` returns: `await` it, or enter it."""

    def __init__(self, open: Callable[[], Awaitable[Opened]]) -> None:
        self._open = open
        self._opened: Opened | None = None

    def __await__(self) -> Generator[Any, None, Opened]:
        return self._open().__await__()

    async def __aenter__(self) -> Opened:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close()


def _check_ways(url: object, embedded: object, credentials: object) -> None:
    for what, value, kinds, use in (
        ("url", url, str, "text: nats://127.0.0.1:4222"),
        ("embedded", embedded, str | Path, "the path of a directory"),
        ("credentials", credentials, Credentials | str | Path, "Credentials(…), or the path of a file"),
    ):
        if value is not None and not isinstance(value, kinds):
            raise InvalidRequest(f"{what} is {value!r:.60}.", hint=f"Use {use}.")


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a broker, and in whose name. Exactly one of `url` and `embedded` is set."""

    identity: Identity
    url: str | None
    embedded: Path | None
    credentials: Credentials | None
    granted: Granted | None

    @classmethod
    def of(
        cls,
        url: str | None,
        embedded: Path | str | None,
        credentials: Credentials | Path | str | None,
        tenant: str | None,
        participant: str | None,
    ) -> Way:
        """Make sense of what `Fabric.connect` is told; no I/O but for files. Raises `InvalidRequest`, `InvalidName`."""
        _check_ways(url, embedded, credentials)
        shown: Credentials | None = None
        if embedded is None:
            shown = Credentials.read(credentials) if isinstance(credentials, Path | str) else credentials
            shown = shown or Credentials.of_environment()
        granted = shown.granted.now() if shown is not None and shown.granted is not None else None
        if granted is not None:
            check_granted(granted, tenant, participant)
            url, tenant, participant = url or granted.url, granted.tenant, granted.participant
        if (url is None) == (embedded is None):
            raise InvalidRequest(
                "Name either a broker's url or a directory for an embedded one.",
                hint='Fabric.connect("nats://127.0.0.1:4222") or Fabric.connect(embedded="./data").',
            )
        identity = Identity(check_tenant(tenant or "default"), participant or "agent:default")
        return cls(identity, url, None if embedded is None else Path(embedded), shown, granted)

    async def open(
        self, *, provision: bool, streams: int | None, replicas: int | None, name: str, timeout_s: float
    ) -> tuple[Broker, EmbeddedBroker | None]:
        """Connect; the second is the broker of one's own, for whoever ends it. Cancelled, nothing is left behind."""
        if self.granted is not None and self.credentials is not None:
            remote = await RemoteBroker.connect(
                str(self.url),
                tenant=self.granted.tenant,
                participant=self.granted.participant,
                sessions=self.granted.sessions,
                credentials=self.credentials,
                name=name,
                timeout_s=timeout_s,
            )
            return remote, None
        own = await EmbeddedBroker.start(self.embedded) if self.embedded is not None else None
        try:
            broker = await JetStreamBroker.connect(
                own.url if own else str(self.url),
                provision=provision,
                streams=streams or (1 if own else None),
                replicas=replicas,
                name=name,
                credentials=own.credentials if own else self.credentials,
                timeout_s=timeout_s,
            )
        except BaseException:
            if own is not None:
                await own.stop()
            raise
        return broker, own
