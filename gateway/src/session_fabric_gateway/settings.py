"""What an operator may set: by flag, else by environment variable, else the default."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from session_fabric.words.errors import InvalidRequest

_HERE: Final = Path(__file__).parent


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
    encryption_keys: Path | None = None
    provision: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    dev_secret: str | None = Field(default=None, repr=False)
    insecure: bool = False
    demo: Path | None = _HERE / "demo"
    allow_origin: tuple[str, ...] = ()
    heartbeat_s: Annotated[float, Field(gt=0)] = 8.0
    stalled_s: Annotated[float, Field(gt=0)] = 10.0
    hello_s: Annotated[float, Field(gt=0)] = 10.0
    # How long clients are given to go elsewhere, and after how long whatever is left is cut.
    drain_s: Annotated[float, Field(ge=0)] = 5.0
    stop_s: Annotated[float, Field(gt=0)] = 15.0
    limits: Limits = Limits()

    def check(self) -> None:
        """Raise `InvalidRequest` for what does not go together."""
        if self.insecure and not is_loopback(self.host):
            raise InvalidRequest(
                f"--insecure lets everybody in, and {self.host} can be reached from other machines.",
                hint="Use --host 127.0.0.1, or --dev-secret-file instead of --insecure.",
            )
        if not self.insecure and self.dev_secret is None:
            raise InvalidRequest(
                "Nothing says who may come in.",
                hint="Give --dev-secret-file FILE (or SESSION_FABRIC_DEV_SECRET), or --insecure on your own machine.",
            )


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
