"""Who has seen how much."""

from __future__ import annotations

import pytest
from session_fabric.rules.messages import Message
from session_fabric.rules.unread import Cursor, seen
from session_fabric.words.positions import Offset


def at(number: int) -> Offset:
    return Offset(1, number)


def message(number: int, actor: str, content: object = "Hello", role: str = "user") -> Message:
    return Message(f"m{number}", role, actor, None, content, "", (), "completed", at(number), at(number + 5))


MESSAGES = [message(10, "user:ada"), message(20, "agent:a"), message(30, "user:eve"), message(40, "user:ada")]


def unread(participant: str, offset: int, messages: list[Message] = MESSAGES) -> int:
    body = seen([Cursor(participant, "d1", at(offset))], messages)
    return int(body["participants"][participant]["unread"])


@pytest.mark.parametrize(
    ("participant", "offset", "expected"),
    [("user:ada", 0, 2), ("user:ada", 20, 1), ("user:ada", 30, 0), ("user:eve", 0, 3), ("user:bob", 9, 4)],
)
def test_unread_are_others_messages_behind_the_cursor(participant: str, offset: int, expected: int) -> None:
    assert unread(participant, offset) == expected


def test_a_message_of_which_the_beginning_was_read_is_not_unread() -> None:
    assert unread("user:bob", 41) == 0


def test_what_has_nothing_to_read_is_not_unread() -> None:
    silent = [message(1, "agent:a", ""), message(2, "agent:a", []), message(3, "agent:a", "Hm.", "reasoning")]
    assert unread("user:ada", 0, silent) == 0


def test_a_participant_has_read_what_the_newest_of_its_devices_has() -> None:
    cursors = [Cursor("user:ada", "phone", at(30)), Cursor("user:ada", "tab", at(10)), Cursor("user:eve", "d", at(40))]
    assert seen(cursors, MESSAGES) == {
        "participants": {
            "user:ada": {"offset": str(at(30)), "unread": 0, "devices": {"phone": str(at(30)), "tab": str(at(10))}},
            "user:eve": {"offset": str(at(40)), "unread": 0, "devices": {"d": str(at(40))}},
        }
    }
