"""What a redaction says of itself when it has been carried out."""

from __future__ import annotations

import hashlib

import orjson
from pydantic import BaseModel, ConfigDict


class Redaction(BaseModel):
    """What a redaction has found and what it has left: `remains` is 0 when nothing of what was said is there.

    `offset` is where the log says it; `events` and `large_bodies` were there and are not; `forks` share the past and
    say it too. `again`: it had been said before. `at` is milliseconds since 1970. `hash` is SHA-256 of the rest as JSON
    with sorted keys and without spaces.
    """

    model_config = ConfigDict(frozen=True)

    tenant: str
    session: str
    target: str
    offset: str
    at: int
    by: str
    reason: str
    events: int
    large_bodies: int
    remains: int
    forks: tuple[str, ...] = ()
    again: bool = False
    hash: str = ""

    @property
    def complete(self) -> bool:
        return not self.remains

    def hashed(self) -> Redaction:
        plain = orjson.dumps(self.model_dump(exclude={"hash"}), option=orjson.OPT_SORT_KEYS)
        return self.model_copy(update={"hash": hashlib.sha256(plain).hexdigest()})
