"""The keys of a broker of our own, beside its data: made at first use, for their owner alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from session_fabric.jetstream.credentials import Credentials
from session_fabric.jetstream.seeds import Kind, Seed, read_seeds
from session_fabric.jetstream.server_config import Door
from session_fabric.new_files import write_own
from session_fabric.words.errors import DataDirectoryUnusable, InvalidRequest

# With what processes of ours introduce themselves, and with what gateways answer who else may come in.
NKEY_NAME: Final = "fabric.nk"
SEEDS_NAME: Final = "callout.seeds"


@dataclass(frozen=True, slots=True)
class OwnKeys:
    nkey: Path
    seeds: Path
    door: Door

    @property
    def credentials(self) -> Credentials:
        return Credentials(nkey=str(self.nkey))

    @classmethod
    def of(cls, directory: Path) -> OwnKeys:
        """Return a directory's keys; what is not there is made. Raises `DataDirectoryUnusable`."""
        nkey, seeds = directory / NKEY_NAME, directory / SEEDS_NAME
        try:
            users, answering = _kept(nkey, "user"), _kept(seeds, "account", "curve")
        except (OSError, InvalidRequest) as error:
            raise DataDirectoryUnusable(
                f"The keys in {str(directory)!r} cannot be used: {error}", directory=str(directory)
            ) from error
        return cls(nkey, seeds, Door(users["user"].public, answering["account"].public, answering["curve"].public))


def _kept(path: Path, *kinds: Kind) -> dict[Kind, Seed]:
    if not path.exists():
        write_own(path, "\n".join(Seed.new(kind).text for kind in kinds) + "\n", 0o600)
    found = read_seeds(path)
    if set(found) != set(kinds):
        raise InvalidRequest(f"{path} has not the seeds that it should have.", hint="Remove it; another is made.")
    return found
