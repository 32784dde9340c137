"""TLS at the gateway: its certificate, and the authorities of its clients' certificates."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

import structlog
from session_fabric.words.errors import InvalidRequest

log = structlog.get_logger()


class _Stamp(NamedTuple):
    """What tells one version of a file from the next; a mounted secret is swapped by a link."""

    inode: int
    modified_ns: int
    size: int


class Tls:
    """A context for a listening socket, whose certificate follows its files. Raises `InvalidRequest` when they fail."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert = cert
        self._key = key
        self._stamps = self._stamp()
        self.context = _context()
        self._load(self.context)
        if client_ca is not None:
            try:
                self.context.load_verify_locations(client_ca)
            except (OSError, ssl.SSLError) as error:
                raise InvalidRequest(f"The client authorities in {client_ca} cannot be used: {_why(error)}.") from error
            self.context.verify_mode = ssl.CERT_REQUIRED

    def check(self) -> None:
        """Take a certificate that was exchanged for connections from now on; one that fails is logged and left."""
        try:
            stamps = self._stamp()
            if stamps == self._stamps:
                return
            # A certificate whose key is still the old one would spoil the context that is in use.
            self._load(_context())
            self._load(self.context)
        except InvalidRequest as error:
            log.warning("certificate_not_exchanged", detail=error.message)
        else:
            self._stamps = stamps
            log.info("certificate_exchanged")

    def _stamp(self) -> tuple[_Stamp, _Stamp]:
        try:
            found = [path.stat() for path in (self._cert, self._key)]
        except OSError as error:
            raise InvalidRequest(f"The certificate cannot be read: {error.filename}: {error.strerror}.") from error
        cert, key = (_Stamp(one.st_ino, one.st_mtime_ns, one.st_size) for one in found)
        return cert, key

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # A password that nobody can be asked for is an empty one.
            context.load_cert_chain(self._cert, self._key, password="")
        except (OSError, ssl.SSLError) as error:
            raise InvalidRequest(f"The certificate in {self._cert} cannot be used: {_why(error)}.") from error


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _why(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error.strerror or type(error).__name__)
