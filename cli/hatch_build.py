"""Puts the project's documentation into the package: the demo agent answers questions from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = {"wheel": "session_fabric_cli/demo/docs", "sdist": "docs-of-project"}


class DocumentationHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # runs from the checkout, and reads the documentation there
        packed = Path(self.root) / INSIDE["sdist"]
        source = packed if packed.is_dir() else Path(self.root).parent
        for page in [source / "README.md", *sorted((source / "docs").rglob("*.md"))]:
            if page.is_file():
                target = f"{INSIDE[self.target_name]}/{page.relative_to(source)}"
                build_data["force_include"][str(page)] = target
