"""Consumers under names of ours that somebody else has made, or copied: by some nothing is handed out, by others what
is handed out may be lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from session_fabric.jetstream.api import Api
from session_fabric.jetstream.contents import consumers, has_our_name
from session_fabric.words.errors import BrokerIncompatible
from session_fabric.words.names import DEADLINES_DURABLE, POOL_DURABLE
from session_fabric.words.subjects import plain

# What the fabric has never made otherwise (jetstream/durable.py, consumer_config). How long and how often something is
# handed out is for each who opens one to say.
_OURS: Final[Mapping[str, Sequence[object]]] = {
    "ack_policy": ("explicit",),
    "replay_policy": ("instant",),
    "deliver_policy": ("all", "new", "by_start_sequence"),
}
_NEVER: Final = (
    "deliver_subject",
    "headers_only",
    "mem_storage",
    "max_batch",
    "max_bytes",
    "max_expires",
    "backoff",
    "rate_limit_bps",
    "priority_groups",
)


class Stranger(NamedTuple):
    """A consumer under a name of ours. `differs`: in what it is not as the fabric makes any; `hands_out`: what no inbox
    of a pool does, where it is called as one."""

    stream: str
    name: str
    differs: Sequence[str]
    hands_out: Sequence[str]


def strangeness(name: str, config: Mapping[str, Any], max_deliver: int = -1) -> list[str]:
    """Say in what a consumer under a name of ours is not as the fabric makes it. `max_deliver`: as wanted."""
    found = [f"{key} is {config.get(key)!r}" for key, values in _OURS.items() if config.get(key) not in values]
    found += [f"{key} is {config[key]!r}" for key in _NEVER if config.get(key)]
    if (config.get("metadata") or {}).get("session-fabric") != "durable":
        found.append("its metadata is not ours")
    # What the fabric itself works through is handed out for as long as it takes; others may say otherwise.
    own = _durable(name) == DEADLINES_DURABLE or (_is_inbox(name) and not _no_input(config))
    if own and max_deliver < 0 < config.get("max_deliver", -1):
        found.append(f"max_deliver is {config['max_deliver']}")
    return found


def check_ours(stream: str, name: str, found: Mapping[str, Any], max_deliver: int) -> None:
    """Raise `BrokerIncompatible` for a consumer that somebody else has made under a name of ours."""
    if differs := strangeness(name, found, max_deliver):
        raise BrokerIncompatible(
            f"The durable subscription {name} in stream {stream} is not as the fabric makes it: {', '.join(differs)}.",
            hint=f"Somebody else has made it. Delete it, and ours is made: {deletion(stream, name)}.",
            subscription=name,
        )


def deletion(stream: str, name: str) -> str:
    """Spell how a consumer is deleted."""
    return f"`nats consumer rm {stream} {name}`"


async def strangers(api: Api, stream: str) -> AsyncGenerator[Stranger, None]:
    """Yield the consumers of a stream that somebody else has made under names of ours."""
    async for info in consumers(api, stream):
        name, config = str(info["name"]), info["config"]
        if has_our_name(name):
            one = Stranger(stream, name, strangeness(name, config), _no_input(config) if _is_inbox(name) else [])
            if one.differs or one.hands_out:
                yield one


def _durable(name: str) -> str:
    return name.split("=")[2]


def _is_inbox(name: str) -> bool:
    return _durable(name).startswith(POOL_DURABLE)


def _no_input(config: Mapping[str, Any]) -> list[str]:
    """Return the filters that let in something else than input for agents."""
    filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
    return [one for one in filters if not plain(one).startswith("sf.in.")]
