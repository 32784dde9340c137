"""`fabricctl completion`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish", show_default=False)],
) -> None:
    """Print what makes a shell complete fabricctl's commands.

    bash: `source <(fabricctl completion bash)` in ~/.bashrc; zsh: the same in ~/.zshrc, after compinit; fish:
    `fabricctl completion fish > ~/.config/fish/completions/fabricctl.fish`.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # not listed, and theirs

    print(get_completion_script(prog_name="fabricctl", complete_var="_FABRICCTL_COMPLETE", shell=shell))
