"""What the demo agent does beside answering: it asks first, looks at one's page, or asks for a person."""

from __future__ import annotations

from typing import Any, Final

from session_fabric import AgentRun
from session_fabric.words.errors import RequestExpired, ToolFailed

from session_fabric_cli.demo.wishes import Wish, object_of

_DECIDE_S: Final = 120.0
_LOOK_S: Final = 20.0


async def act(run: AgentRun, wish: Wish, question: str) -> bool:
    """Do what is wanted; False when it is an answer that is wanted."""
    match wish:
        case "approve":
            await _approve(run, question)
        case "page":
            await _page(run)
        case "selection":
            await _selection(run)
        case "person":
            await _person(run, question)
        case "think":
            return False
    return True


async def _approve(run: AgentRun, question: str) -> None:
    what = object_of(question) or "everything"
    await run.text(f"Before I do that, somebody has to agree.\n\nWhat is to be deleted: {what}.")
    try:
        approval = await run.approve(
            f"Delete {what}?", text="This is a demonstration: nothing is lost.", deadline_s=_DECIDE_S
        )
    except RequestExpired:
        await run.text("\n\nNobody decided, so I left everything as it was.")
        return
    said = f" (“{approval.comment}”)" if approval.comment else ""
    done = "It is done." if approval.approved else "So I left everything as it was."
    await run.text(f"\n\n{approval.by} {'agreed' if approval.approved else 'declined'}{said}. {done}")


async def _page(run: AgentRun) -> None:
    found = await _look(run, "read_page")
    if found is None:
        return
    viewport = found.get("viewport")
    size = viewport if isinstance(viewport, dict) else {}
    lines = [
        f"- it is {size.get('width')} by {size.get('height')} pixels",
        f"- its colours are {found.get('colour_scheme')}",
        f"- its language is {found.get('language')}, its time zone {found.get('time_zone')}",
    ]
    listed = "\n".join(lines)
    await run.text(f"I asked your page, “{found.get('title')}”, and it says:\n\n{listed}")


async def _selection(run: AgentRun) -> None:
    found = await _look(run, "read_selection")
    if found is None:
        return
    text = str(found.get("text") or "")
    words = f"You have marked {len(text.split())} words:\n\n> {' '.join(text.split())[:1000]}"
    await run.text(words if text else "You have marked nothing. Mark some text of this conversation, and ask again.")


async def _look(run: AgentRun, tool: str) -> dict[str, Any] | None:
    """Have the page of whoever asks say something; None when it does not, which is told."""
    try:
        found = await run.client_tool(tool, {}, to=run.input.actor, deadline_s=_LOOK_S)
    except (RequestExpired, ToolFailed) as error:
        await run.text(f"I asked your page, and it did not say: {error.message}")
        return None
    return found if isinstance(found, dict) else {}


async def _person(run: AgentRun, question: str) -> None:
    await run.text("I have asked for a person. Whoever takes over goes on here; if nobody does, ask me again.")
    await run.stored()
    await run.session.floor().offer("role:operator", question[:500])
