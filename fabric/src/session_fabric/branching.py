"""Other questions and other answers in place of those that are there: selected, edited, made anew."""

from __future__ import annotations

from session_fabric.parts import Parts
from session_fabric.rules.messages import Message
from session_fabric.rules.routing import DEFAULT_POOL
from session_fabric.words.errors import InvalidRequest, MessageNotFound
from session_fabric.words.events import BRANCH_SELECTED, MESSAGE_REGENERATE, MESSAGE_USER
from session_fabric.words.names import check_id, new_id
from session_fabric.writer import Appended


async def select(parts: Parts, message: str, id: str | None) -> Appended:
    """Show a message to everybody; see `Session.select`."""
    record = await parts.open()
    return await parts.writer.append(record.stretch, {"type": BRANCH_SELECTED, "message": message}, id=id, since=None)


async def regenerate(parts: Parts, message: str, pool: str, id: str | None) -> Appended:
    """Have a message answered again; see `Session.regenerate`."""
    await _said(parts, message)
    body = {"type": MESSAGE_REGENERATE, "message": message, **_to(pool)}
    record = await parts.open()
    return await parts.writer.append(record.stretch, body, id=id, since=None)


async def edit(parts: Parts, message: str, text: str, pool: str, id: str | None) -> Appended:
    """Say something else in a message's place; see `Session.edit`."""
    was = await _said(parts, message)
    new = check_id(new_id("m-") if id is None else id, "message")
    said = {"id": new, "role": "user", "content": text}
    body = {"type": MESSAGE_USER, "message": said, "parent": was.parent, **_to(pool)}
    record = await parts.open()
    # The event's id follows from the message's, so that an edit sent again is the same event.
    return await parts.writer.append(record.stretch, body, id=new, since=None)


async def _said(parts: Parts, id: str) -> Message:
    check_id(id, "message")
    found = (await parts.history.folded()).message(id)
    if found is None:
        raise MessageNotFound(
            f"There is no message {id!r} in session {parts.place.session!r}.",
            hint="Use the id of one of the session's messages of a user.",
        )
    if found.role != "user":
        raise InvalidRequest(
            f"Message {id!r} is {found.actor}'s answer, not a user's message.",
            hint=f"Name the message that it answers: {found.parent!r}." if found.parent else "Name a user's message.",
        )
    return found


def _to(pool: str) -> dict[str, str]:
    return {} if pool == DEFAULT_POOL else {"pool": check_id(pool, "pool")}
