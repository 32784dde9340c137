"""What an operator chooses of a new stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from session_fabric.jetstream.streams import Config


class Settings(NamedTuple):
    """What an operator chooses of a new stream; None, empty: as the stream that it is divided off from."""

    replicas: int | None = None
    max_bytes: int | None = None
    placement_tags: tuple[str, ...] = ()
    cluster: str | None = None

    def of(self, base: Mapping[str, Any]) -> Config:
        config: Config = {"num_replicas": self.replicas or base.get("num_replicas", 1)}
        if self.placement_tags or self.cluster:
            config["placement"] = {
                **({"cluster": self.cluster} if self.cluster else {}),
                **({"tags": list(self.placement_tags)} if self.placement_tags else {}),
            }
        elif base.get("placement"):
            config["placement"] = base["placement"]
        if (max_bytes := self.max_bytes or base.get("max_bytes", -1)) > 0:
            # What is full refuses: an event that was confirmed is never dropped to make room.
            config |= {"max_bytes": max_bytes, "discard": "new"}
        return config


AS_BEFORE: Final = Settings()
Say = Callable[[str], None]
