"""What an operator may set: by flag, else by environment variable, else the default."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from session_fabric import Credentials
from session_fabric.jetstream.credentials import tls_of
from session_fabric.jetstream.seeds import Kind, Seed, read_seeds, seeds_of
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.addresses import Network
from session_fabric_gateway.allowances import Allowances, read_allowances
from session_fabric_gateway.metrics import Metrics
from session_fabric_gateway.origins import check_listed
from session_fabric_gateway.tls import Tls
from session_fabric_gateway.tokens.issuer import Jwks, proxy_for
from session_fabric_gateway.tokens.keys import are_keys, read_keys, secret_key
from session_fabric_gateway.tokens.sources import KeyFile, KeyKeeper

_HERE: Final = Path(__file__).parent


_Port = Annotated[int, Field(ge=0, le=65535)]
# Beyond these it is a slip of the hand: connections that never die, or are dead at once.
_Patience = Annotated[float, Field(ge=0.1, le=3600)]
_A_DAY_S: Final = 86_400
_TEN_YEARS_S: Final = 10 * 365 * _A_DAY_S


class Limits(BaseModel):
    """What one connection may use; told in `welcome`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A body of the largest size, and room for what is around it.
    max_frame_bytes: int = 8 * 1024 * 1024 + 64 * 1024
    max_body_bytes: int = 8 * 1024 * 1024
    max_subs: int = 1000
    max_queued_bytes: int = 256 * 1024


class Settings(BaseModel):
    """Everything that a gateway is told from outside. Secrets are not shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nats: str = "nats://127.0.0.1:4222"
    nats_user: str | None = None
    nats_password: str | None = Field(default=None, repr=False)
    nats_token: str | None = Field(default=None, repr=False)
    nats_credentials: Path | None = None
    nats_ca: Path | None = None
    nats_cert: Path | None = None
    nats_key: Path | None = None
    encryption_keys: Path | None = None
    # How long a broker is waited for that is away, or has no leaders, when the gateway starts.
    broker_wait_s: Annotated[float, Field(ge=0, le=600)] = 60.0
    provision: bool = True
    # A file with seeds, or the seeds themselves.
    native_agents: str | None = Field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: _Port = 8080
    # For metrics and health alone; None: they are on the port of everybody.
    admin_port: _Port | None = None
    admin_host: str | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    # A file, or keys themselves: among them may be secrets.
    token_keys: str | None = Field(default=None, repr=False)
    token_jwks_url: str | None = None
    token_jwks_ca: Path | None = None
    token_issuer: tuple[str, ...] = ()
    token_audience: str | None = None
    token_leeway_s: Annotated[float, Field(ge=0, le=300)] = 30.0
    dev_secret: str | None = Field(default=None, repr=False)
    insecure: bool = False
    demo: Path | None = _HERE / "demo"
    allow_origin: tuple[str, ...] = ()
    cookie: str | None = None
    heartbeat_s: _Patience = 8.0
    stalled_s: _Patience = 10.0
    hello_s: _Patience = 10.0
    head_s: _Patience = 10.0
    limits_file: Path | None = None
    limit: tuple[str, ...] = ()
    trusted_proxy: tuple[Network, ...] = ()
    # Durable streams: how long a long poll waits, under which URL clients know this gateway, which hosts that are no
    # public ones webhooks may name.
    stream_poll_s: Annotated[float, Field(gt=0, le=120)] = 25.0
    public_url: str | None = None
    webhook_host: tuple[str, ...] = ()
    # Of front-end frameworks' clients that let go of a run: it goes on without them, or is interrupted.
    dialect_abort: Literal["detach", "interrupt"] = "detach"
    hsts_s: Annotated[int, Field(ge=0, le=_TEN_YEARS_S)] = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    # How long clients are given to go elsewhere, and after how long whatever is left is cut.
    drain_s: Annotated[float, Field(ge=0, le=_A_DAY_S)] = 5.0
    stop_s: Annotated[float, Field(gt=0, le=_A_DAY_S)] = 15.0
    limits: Limits = Limits()

    def allowances(self) -> Allowances:
        """Return how much who may do. Raises `InvalidRequest`."""
        return read_allowances(self.limits_file, self.limit, told_apart=not self.insecure)

    def tls(self) -> Tls | None:
        """Return the certificate to serve with, if any. Raises `InvalidRequest`."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return Tls(self.tls_cert, self.tls_key, self.tls_client_ca)

    def keys(self, metrics: Metrics | None = None) -> KeyKeeper:
        """Return what keeps the keys that tokens are verified with. Raises `InvalidRequest`."""
        fixed = [] if self.dev_secret is None else [secret_key(self.dev_secret)]
        file = None
        if self.token_keys is not None and are_keys(self.token_keys):
            fixed += read_keys(self.token_keys, "SESSION_FABRIC_TOKEN_KEYS")
        elif self.token_keys is not None:
            file = KeyFile(Path(self.token_keys))
        return KeyKeeper(fixed, file, self._issuer(metrics), counts=metrics)

    def _issuer(self, metrics: Metrics | None) -> Jwks | None:
        if self.token_jwks_url is None:
            return None
        url, told = self.token_jwks_url, None if metrics is None else metrics.jwks_fetched
        return Jwks(url, ca=self.token_jwks_ca, proxy=proxy_for(url), on_fetched=told)

    def nats_introduction(self) -> Credentials:
        """Return how to introduce oneself to the broker. Raises `InvalidRequest`."""
        tls = tls_of(self.nats_ca, self.nats_cert, self.nats_key)
        if self.nats_credentials is not None:
            return replace(Credentials.read(self.nats_credentials), tls=tls)
        return Credentials(user=self.nats_user, password=self.nats_password, token=self.nats_token, tls=tls)

    def native_seeds(self) -> dict[Kind, Seed] | None:
        """Return what the broker's questions about native agents are answered with. Raises `InvalidRequest`."""
        if self.native_agents is None:
            return None
        if self.native_agents.startswith("S") and not Path(self.native_agents).exists():
            seeds = seeds_of(self.native_agents.split(), "SESSION_FABRIC_NATIVE_AGENTS")
        else:
            seeds = read_seeds(Path(self.native_agents))
        if "account" not in seeds:
            raise InvalidRequest(
                "--native-agents has no seed of an account (SA…).",
                hint="`fabricctl broker config` makes a file with what it takes.",
            )
        return seeds

    def check(self) -> None:
        """Raise `InvalidRequest` for what does not go together, and for files that say something wrong."""
        self.allowances()
        if self.admin_host is not None and self.admin_port is None:
            raise InvalidRequest("--admin-host is for --admin-port.", hint="Give --admin-port too.")
        check_listed(self.allow_origin)
        if self.cookie is not None and "*" in self.allow_origin:
            raise InvalidRequest(
                "--cookie with --allow-origin * lets every page in the name of whoever looks at it.",
                hint="List the origins of your pages.",
            )
        if self.cookie is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.cookie):
            raise InvalidRequest(f"{self.cookie!r:.80} is not a cookie's name.", hint="Use letters, digits, _ and -.")
        if self.demo is not None and not self.demo.is_dir():
            raise InvalidRequest(
                f"--demo {str(self.demo)!r:.80} is no directory.", hint="For no page, write --demo none."
            )
        self._check_urls()
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidRequest("--tls-cert and --tls-key go together.", hint="Give both, or neither.")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise InvalidRequest("--tls-client-ca is for TLS.", hint="Give --tls-cert and --tls-key too.")
        self.tls()
        self.native_seeds()
        if (self.nats_cert is None) != (self.nats_key is None):
            raise InvalidRequest("--nats-cert and --nats-key go together.", hint="Give both, or neither.")
        self.nats_introduction()
        if self.insecure and not is_loopback(self.host):
            raise InvalidRequest(
                f"--insecure lets everybody in, and {self.host} can be reached from other machines.",
                hint="Use --host 127.0.0.1, or --dev-secret-file instead of --insecure.",
            )
        if not self.insecure and not (self.dev_secret or self.token_keys or self.token_jwks_url):
            raise InvalidRequest(
                "Nothing says who may come in.",
                hint="Give --token-keys FILE or --token-jwks-url URL; while you develop, --dev-secret-file FILE, or "
                "--insecure on your own machine.",
            )
        self._check_issuer()
        self.keys()

    def _check_urls(self) -> None:
        if self.public_url:
            try:
                url = urlsplit(self.public_url)
                good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
            except ValueError:
                url, good = urlsplit(""), False
            if not good or url.query or url.fragment or url.username is not None:
                raise InvalidRequest(
                    f"--public-url {self.public_url!r:.100} is no URL under which clients know a gateway.",
                    hint="For example https://gateway.example, with a path where there is one.",
                )
        for host in self.webhook_host:
            if re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", host) is None:
                raise InvalidRequest(
                    f"--webhook-host {host!r:.80} is no host's name or address.",
                    hint="Write it without https://, port and path: hooks.internal.",
                )

    def _check_issuer(self) -> None:
        if self.token_jwks_url is None:
            if self.token_jwks_ca is not None:
                raise InvalidRequest("--token-jwks-ca is for --token-jwks-url.", hint="Give that, too.")
            return
        try:
            url = urlsplit(self.token_jwks_url)
            host = url.hostname or ""
        except ValueError:
            url, host = urlsplit(""), ""
        if not host or not (url.scheme == "https" or (url.scheme == "http" and is_loopback(host))):
            raise InvalidRequest(
                f"--token-jwks-url {self.token_jwks_url!r:.100} is not a URL with https.",
                hint="Whoever can change what it answers can make tokens; http is for this machine alone.",
            )
        if not self.token_issuer or self.token_audience is None:
            raise InvalidRequest(
                "--token-jwks-url needs --token-issuer and --token-audience.",
                hint="An issuer signs tokens for others too, with the same keys: those must not let anybody in here.",
            )


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
