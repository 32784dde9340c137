"""How one introduces oneself to the broker, and the files that say so."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from session_fabric.jetstream.reasons import of_file
from session_fabric.jetstream.seeds import Seed
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.logs import log

# Where programs find the file that is theirs; the gateway's setting of this name is the same.
VARIABLE: Final = "SESSION_FABRIC_NATS_CREDENTIALS"
_MOST_BYTES: Final = 256 * 1024
_HINT: Final = "`fabricctl agent grant` writes such a file; nats-server's own tools write the others."


class Granted(BaseModel):
    """What `fabricctl agent grant` writes for one native participant.

    `expires`: seconds since 1970. `sessions`: by name, whose news the broker tells (None: the whole tenant's). `ca`:
    PEM of who signs for the broker. `cert`, `key`: files that are shown to a broker which asks for a certificate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    tenant: str
    participant: str
    token: str
    expires: int
    sessions: tuple[str, ...] | None = None
    ca: str | None = None
    cert: Path | None = None
    key: Path | None = None


class TlsFiles(ssl.SSLContext):
    """How to come over TLS, by files: certificates that are renewed count from the next connection on.

    Made by `tls_of`. An authority that is no longer in the file is trusted until the process ends.
    """

    _files: tuple[Path | None, Path | None, Path | None] = (None, None, None)
    _stamps: tuple[tuple[int, int] | None, ...] = ()

    def by(self, ca: Path | None, cert: Path | None, key: Path | None) -> Self:
        """Remember by which files it was made."""
        self._files = ca, cert, key
        self._stamps = self._look()
        return self

    def renew(self) -> None:
        """Read the files again, where they have changed. What cannot be used is logged, and what was read goes on."""
        stamps = self._look()
        if stamps == self._stamps:
            return
        ca, cert, key = self._files
        try:
            if ca is not None:
                self.load_verify_locations(ca)
            if cert is not None:
                self.load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as error:  # half written, say: they are looked at again
            log.warning("credentials_unreadable", path=str(cert or ca), error=type(error).__name__)
            return
        self._stamps = stamps

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(None if file is None else _stamp(file) for file in self._files)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino


def tls_of(ca: str | Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return how to come over TLS: whom to trust (a file, or PEM itself), and what to show. None where nothing is said.

    Raises `InvalidRequest`.
    """
    if ca is None and cert is None:
        return None
    file_of_ca = ca if isinstance(ca, Path) else None
    try:
        pem = ca if isinstance(ca, str) else None
        context = TlsFiles(ssl.PROTOCOL_TLS_CLIENT)
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=pem, cafile=file_of_ca)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        said = ca if isinstance(ca, Path) else "What the credentials say of it"
        raise InvalidRequest(
            f"{said} does not say who signs for the broker: {of_file(error)}.",
            hint="It is a file in PEM, with the certificates of authorities; not with a key.",
        ) from error
    if cert is None:
        return context.by(file_of_ca, None, None)
    try:
        for file in (cert, key or cert):
            file.read_bytes()  # what cannot be read is named: ssl does not say which one it was
    except OSError as error:
        raise InvalidRequest(
            f"{file} cannot be read, to show the broker a certificate: {of_file(error)}.",
            hint="Name a certificate and its key, files in PEM that this user can read.",
        ) from error
    try:
        context.load_cert_chain(cert, key, password="")  # else who started us would be asked on the terminal
    except (OSError, ValueError) as error:
        if key is None:
            raise InvalidRequest(
                f"{cert} does not hold a certificate and its key, and no key was named.",
                hint="Name the key's file: SESSION_FABRIC_NATS_KEY, or `fabricctl context set … --cert-key FILE`.",
            ) from error
        raise InvalidRequest(
            f"{cert} and {key} are not a certificate and its key: {of_file(error)}.",
            hint="They are in PEM, made for each other, and the key is not under a password.",
        ) from error
    return context.by(file_of_ca, cert, key)


def _of_nats(name: str) -> str | None:
    return os.environ.get(f"SESSION_FABRIC_NATS_{name}") or None  # set to nothing is not set


def check_granted(granted: Granted, tenant: str | None, participant: str | None) -> None:
    """Raise `InvalidRequest` where somebody else is meant than the credentials are of."""
    for what, said, theirs in (
        ("tenant", tenant, granted.tenant),
        ("participant", participant, granted.participant),
    ):
        if said is not None and said != theirs:
            raise InvalidRequest(
                f"The credentials are of {what} {theirs!r}, not {said!r}.", hint=f"Leave {what} out, or use others."
            )


class GrantFile:
    """A file of the above; it is looked at for each connection and each request, so that another token counts at once.

    One that cannot be read any more leaves what was read before, and is logged.
    """

    def __init__(self, path: Path) -> None:
        """Raises `InvalidRequest`."""
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._granted = self._read()

    def now(self) -> Granted:
        try:
            if self._look() != self._stamp:
                self._granted = self._read()
        except (OSError, InvalidRequest) as error:
            log.warning("credentials_unreadable", path=str(self._path), error=type(error).__name__)
        return self._granted

    def token(self) -> str:
        return self.now().token

    def tls(self) -> ssl.SSLContext | None:
        granted = self.now()
        return tls_of(granted.ca, granted.cert, granted.key)

    def _look(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> Granted:
        try:
            stamp = self._look()
            granted = Granted.model_validate_json(_text(self._path))
        except OSError as error:
            raise _unreadable(self._path, error) from error
        except ValidationError as error:
            names = ", ".join(sorted({".".join(map(str, one["loc"])) or "JSON" for one in error.errors()}))
            raise InvalidRequest(f"{self._path} is not a file of credentials: {names}.", hint=_HINT) from error
        self._stamp = stamp
        return granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How to introduce oneself to the broker; at most one of token, user and password, a credentials file of NATS, a
    file with the seed of an nkey (SU…), or what was granted a native agent.

    `bearer`: what those who have no rights there ask the fabric with, where that is not the broker's `token`.
    """

    token: str | None = None
    user: str | None = None
    password: str | None = None
    credentials: str | None = None
    nkey: str | None = None
    tls: ssl.SSLContext | None = None
    bearer: str | None = None
    granted: GrantFile | None = None

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a file: of `fabricctl agent grant` (JSON), of NATS (`.creds`), or an nkey's seed.

        Raises `InvalidRequest`, which tells nothing of what is in it.
        """
        path = Path(path).expanduser()
        try:
            text = _text(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        if text.startswith("{"):
            return cls(granted=GrantFile(path))
        if text.startswith("-----BEGIN NATS"):
            return cls(credentials=str(path))
        try:
            kind = Seed.read(text).kind
        except InvalidRequest:
            kind = None
        if kind != "user":
            raise InvalidRequest(f"{path} is not a file of credentials.", hint=_HINT)
        return cls(nkey=str(path))

    @classmethod
    def of_environment(cls) -> Self | None:
        """Read what the environment names: the file `SESSION_FABRIC_NATS_CREDENTIALS`, else
        `SESSION_FABRIC_NATS_USER`, `…_PASSWORD` and `…_TOKEN`; for TLS the files `SESSION_FABRIC_NATS_CA`, `…_CERT` and
        `…_KEY`. None where it names none.

        Raises `InvalidRequest`.
        """
        path = os.environ.get(VARIABLE) or None
        ca, cert, key = (None if file is None else Path(file) for file in map(_of_nats, ("CA", "CERT", "KEY")))
        user, password, token = map(_of_nats, ("USER", "PASSWORD", "TOKEN"))
        tls = tls_of(ca, cert, key)
        if path is not None:
            return cls.read(path) if tls is None else replace(cls.read(path), tls=tls)
        if user is None and token is None and tls is None:
            return None
        return cls(user=user, password=password, token=token, tls=tls)

    def options(self) -> dict[str, Any]:
        token: str | Callable[[], str] | None = self.token
        tls = self.tls
        if self.granted is not None:
            token, tls = self.granted.token, tls or self.granted.tls()
        named = {
            "token": token,
            "user": self.user,
            "password": self.password,
            "user_credentials": self.credentials,
            "nkeys_seed": self.nkey,
            "tls": tls,
        }
        return {key: value for key, value in named.items() if value is not None}

    def asking(self) -> str:
        """Return what one asks the fabric with now."""
        return self.bearer or (self.granted.token() if self.granted else self.token) or ""


def _text(path: Path) -> str:
    if os.stat(path).st_size > _MOST_BYTES:
        raise InvalidRequest(f"{path} has more than {_MOST_BYTES} bytes.", hint=_HINT)
    try:
        return path.read_text().strip()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not text.", hint=_HINT) from error


def _unreadable(path: Path, error: OSError) -> InvalidRequest:
    return InvalidRequest(f"The credentials cannot be read from {path}: {error.strerror}.", hint=_HINT)
