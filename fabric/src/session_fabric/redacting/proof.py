"""What a redaction says of itself when it has been carried out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import orjson
from pydantic import BaseModel, ConfigDict


def proof_hash(proof: BaseModel) -> str:
    """Return SHA-256 of all but the `hash` of what is proved, as JSON with sorted keys and without spaces."""
    plain = orjson.dumps(proof.model_dump(exclude={"hash"}), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(plain).hexdigest()


class Redaction(BaseModel):
    """What a redaction has found and what it has left: `remains` is 0 when nothing of what was said is there.

    `offset` is where the log says it; `events` and `large_bodies` were there and are not; `forks` share the past and
    say it too. `checkpoints` are the parts of what agents had saved, here and in those forks, that were removed;
    `checkpoints_left` stay for now and are counted in `remains`: they go when the runs that they are kept for
    (`waits_for`, by session) have ended. `documents` are shared documents there, at which nobody has looked. `again`:
    it had been said before. `at` is milliseconds since 1970. `hash` is SHA-256 of the rest as JSON
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
    checkpoints: int = 0
    checkpoints_left: int = 0
    waits_for: Mapping[str, tuple[str, ...]] = {}
    documents: int = 0
    again: bool = False
    hash: str = ""

    @property
    def complete(self) -> bool:
        return not self.remains

    def hashed(self) -> Redaction:
        return self.model_copy(update={"hash": proof_hash(self)})
