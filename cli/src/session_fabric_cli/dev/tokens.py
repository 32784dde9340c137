"""Development tokens: signed with the secret in the data directory, which the gateway knows too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from session_fabric_cli.signing import read_signing

_VALID_S: Final = 30 * 24 * 3600


def mint(secret: Path, *, participant: str, tenant: str, everything: bool = False) -> str:
    """Return a token for a participant, valid for a month. `everything`: it may erase sessions too."""
    now = int(time.time())
    claims: dict[str, object] = {"sub": participant, "tenant": tenant, "iat": now, "exp": now + _VALID_S}
    if everything:
        claims["sessions"] = {"*": ["*"]}
    return read_signing(secret).sign(claims)
