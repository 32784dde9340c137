"""A framework that is not installed."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
from session_fabric.words.errors import ExtraMissing

MODULES = {
    "pydantic_ai": ("pydantic_ai", "pydantic-ai"),
    "langgraph": ("langgraph.types", "langgraph"),
    "openai_agents": ("agents", "openai-agents"),
    "synadia": ("synadia_ai.agents", "synadia"),
    "checkpointer": ("langgraph.checkpoint.base", "langgraph"),
}


@pytest.mark.parametrize("module", MODULES)
def test_a_framework_that_is_not_installed_is_named_with_the_command_that_installs_it(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, extra = MODULES[module]
    name = f"session_fabric.frameworks.{module}"
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ExtraMissing) as missing:
        import_module(name)
    assert missing.value.hint == f"pip install 'session-fabric[{extra}]'"
    assert missing.value.code == "extra_missing"
    assert package in missing.value.message
