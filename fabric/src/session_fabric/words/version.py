"""Which version of the fabric this is. Members have one version, and pin each other's."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

VERSION: Final = version("session-fabric")
