"""Development tokens: signed with the secret in the data directory, which the gateway knows too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import jwt

_VALID_S: Final = 30 * 24 * 3600


def mint(secret: Path, *, participant: str, tenant: str) -> str:
    """Return a token for a participant, valid for a month."""
    now = int(time.time())
    claims = {"sub": participant, "tenant": tenant, "iat": now, "exp": now + _VALID_S}
    return jwt.encode(claims, secret.read_text().strip(), algorithm="HS256")
