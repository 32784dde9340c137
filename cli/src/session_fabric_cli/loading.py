"""Makes commands of the tree when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, Final

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from session_fabric_cli import lean
from session_fabric_cli.tree import Branch, Leaf

_ABOUT: Final[Mapping[str, Any]] = {
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # errors and help as plain lines: they are piped and quoted
    "add_completion": False,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 110},
}


class Group(TyperGroup):
    """A group whose commands are loaded one by one; its own help loads none."""

    branch: Branch

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        room = formatter.width - 6 - max(map(len, self.branch.below))
        rows = [(name, _shortened(entry.help, room)) for name, entry in self.branch.below.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        from typer._click.shell_completion import CompletionItem  # what typer has: it brings a click of its own

        below = self.branch.below.items()
        found = [CompletionItem(name, help=entry.help) for name, entry in below if name.startswith(incomplete)]
        return found or super().shell_complete(ctx, incomplete)


class Command(TyperCommand):
    """A command whose usage and whose errors are spelled as the documents spell them."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from typer._click.exceptions import BadParameter  # what typer has: it brings a click of its own

        try:
            return super().parse_args(ctx, args)
        except BadParameter as error:
            error.message = _said(error)
            raise


def _said(error: Any) -> str:
    """Return what is wrong with an option's value in our words: typer passes on what pydantic says."""
    from pydantic import ValidationError  # only where something is wrong: it takes time to come

    message: str = error.message.removeprefix("Value error, ")
    if not isinstance(error.__cause__, ValidationError):
        return message
    wrong = error.__cause__.errors(include_url=False)[0]
    value, bounds = wrong["input"], wrong.get("ctx", {})
    shown = f"{value!r:.80}" if isinstance(value, str) else f"{value!s:.80}"
    match wrong["type"]:
        case "int_parsing" | "int_from_float" | "int_parsing_size":
            return f"{shown} is not a whole number."
        case "float_parsing":
            return f"{shown} is not a number."
        case "greater_than_equal" | "less_than_equal" if str(value).strip().lower().lstrip("+-") == "nan":
            return f"{shown} is not a number."
        case "greater_than_equal":
            return f"{shown} is too little: {_plain(bounds['ge'])} is the least."
        case "less_than_equal":
            return f"{shown} is too much: {_plain(bounds['le'])} is the most."
    return message


def _plain(bound: float) -> str:
    return str(bound).removesuffix(".0")


class _Commands(MutableMapping[str, Any]):
    """The commands of a group by name, made at the first look."""

    def __init__(self, branch: Branch, before: Callable[[], None]) -> None:
        self._branch = branch
        self._before = before
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _made(name, self._branch.below[name], self._before)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._branch.below)

    def __len__(self) -> int:
        return len(self._branch.below)


def group(name: str, branch: Branch, callback: Callable[..., None], before: Callable[[], None]) -> Group:
    """Make a group that has the callback's options. `before` is called before any of its commands is loaded."""
    app = typer.Typer(name=name, cls=Group, help=branch.help, no_args_is_help=True, **_ABOUT)
    app.callback()(callback)
    made = typer.main.get_command(app)
    assert isinstance(made, Group)
    made.branch = branch
    made.commands = _Commands(branch, before)
    return made


def _made(name: str, entry: Leaf | Branch, before: Callable[[], None]) -> Group | TyperCommand:
    if isinstance(entry, Branch):
        return group(name, entry, _nothing, before)
    lean.prepare()
    before()
    module, _, function = entry.at.partition(":")
    app = typer.Typer(name=name, **_ABOUT)
    app.command(name, cls=Command)(getattr(import_module(f"session_fabric_cli.commands.{module}"), function))
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    return command


def _nothing() -> None:
    """Groups do nothing themselves."""


def _shortened(text: str, room: int) -> str:
    first = text.partition(". ")[0].rstrip(".")
    return first if len(first) <= room else f"{first[: max(0, room - 3)].rpartition(' ')[0]}..."
