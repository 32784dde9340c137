"""A session as a chat that grows on a terminal."""

from __future__ import annotations

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from session_fabric.words.events import TEXT_CONTENT, Event, utf16_length
from session_fabric.words.positions import Offset
from session_fabric_cli.inspecting.chat import Chat, printable

TEXTS = st.text(max_size=40)


class Talk:
    """Events of a session, one after another."""

    def __init__(self) -> None:
        self._sequence = 0

    def event(self, type: str, actor: str = "agent:a", at: int | None = None, **body: object) -> Event:
        self._sequence += 1
        raw = orjson.dumps({"type": type, **body})
        return Event(Offset(1, self._sequence), f"e{self._sequence}", type, actor, "r1", 0, raw, at)

    def pieces(self, parts: list[str], message: str = "m") -> list[Event]:
        found, at = [], 0
        for part in parts:
            found.append(self.event(TEXT_CONTENT, at=at, messageId=message, delta=part))
            at += utf16_length(part)
        return found

    def whole(self, text: str, message: str = "m", type: str = "message.completed", actor: str = "agent:a") -> Event:
        return self.event(type, actor, message={"id": message, "role": "assistant", "content": text})


def shown(events: list[Event]) -> str:
    chat = Chat()
    return "".join(map(chat.add, events)) + chat.end()


def test_a_message_is_headed_once_and_grows() -> None:
    talk = Talk()
    events = [talk.whole("Hello", "u", "message.user", "user:ada"), *talk.pieces(["Hel", "lo ", "back"])]
    assert shown(events) == "00:00:00  user:ada\nHello\n00:00:00  agent:a\nHello back\n"


def test_two_who_speak_at_once_are_told_apart() -> None:
    talk = Talk()
    one, two = talk.pieces(["a", "b"], "m1"), talk.pieces(["x", "y"], "m2")
    out = shown([one[0], two[0], one[1], two[1]])
    assert out.count("(goes on)") == 2
    assert out.count("agent:a\n") == 2
    assert [line for line in out.splitlines() if ":" not in line] == ["a", "x", "b", "y"]


def test_a_text_that_was_rewritten_is_told_anew() -> None:
    talk = Talk()
    out = shown([*talk.pieces(["Wrong"]), talk.whole("Right")])
    assert out.endswith("agent:a (instead)\nRight\n")


@given(st.lists(TEXTS, max_size=8), st.data())
@example(["\ud83d", "x"], None)
def test_however_it_comes_a_message_is_told_whole_and_once(parts: list[str], data: st.DataObject | None) -> None:
    parts = [part.encode("utf-8", "ignore").decode() for part in parts]
    text = "".join(parts)
    talk = Talk()
    events = talk.pieces(parts)
    if data is not None:
        events = data.draw(st.lists(st.sampled_from(events), max_size=12)) if events else []
        if data.draw(st.booleans()):
            events.append(talk.whole(text[: data.draw(st.integers(0, len(text)))], type="message.snapshot"))
    out = shown([*events, talk.whole(text)])
    if "(instead)" not in out:
        assert "".join(line for line in out.splitlines() if not line.startswith("00:00:00")) == "".join(
            printable(text).splitlines()
        )


@given(TEXTS, TEXTS)
def test_nothing_that_was_said_steers_the_terminal(text: str, who: str) -> None:
    talk = Talk()
    events = [talk.whole(text), talk.event("tool.requested", who, tool=text), talk.event("RUN_ERROR", message=text)]
    assert all(c.isprintable() or c == "\n" for c in shown(events))


def test_what_is_no_chat_is_left_out() -> None:
    talk = Talk()
    assert shown([talk.event("CUSTOM"), talk.event("app.note", text="x"), talk.event("cursor.moved")]) == ""
