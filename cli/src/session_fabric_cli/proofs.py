"""What a deletion prints: what there was, what is left, and a hash over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_fabric import Erasure
from session_fabric.offboarding import Offboarding

from session_fabric_cli.options import Output
from session_fabric_cli.printing import moment, print_facts, print_value


def print_proof(output: Output, of: Mapping[str, str], proof: Erasure | Offboarding, kept: Mapping[str, Any]) -> None:
    """Print it, for programs or for people. `of`: of what it is; `kept`: what stays, by what it is called."""
    if output != "table":
        print_value(output, {**proof.model_dump(), "complete": proof.complete})
        return
    facts = {
        **of,
        "deleted": f"{moment(proof.at)} by {proof.by}",
        "there was": dict(proof.before) or "nothing",
        "there is": dict(proof.remains) or "nothing",
        **kept,
        "sha256": proof.hash,
    }
    print_facts(output, facts)
