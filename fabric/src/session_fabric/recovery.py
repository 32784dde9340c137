"""What a run has said so far, read back from the log: for whoever ends it or goes on with it."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from session_fabric.history import History
from session_fabric.open_message import Recovered
from session_fabric.ports import Log, Stretch, Wanted
from session_fabric.rules.fold import Fold
from session_fabric.words.positions import Offset

# Of an orphaned run, which is not over, what it had not completed counts as interrupted until it is gone on with.
_NOT_COMPLETED: Final = ("open", "interrupted")


async def recover(log: Log, history: History, to: Stretch, run: str, upto: int) -> list[Recovered]:
    """Return the messages of a run as of sequence `upto`, which the leader has named: oldest first.

    Asked for behind an event that fences the run's writer, it is all that this one has stored.
    """
    first = upto
    async with aclosing(log.read(to, after=0, upto=upto, wanted=[Wanted("own", run)])) as batches:
        async for records in batches:
            first = records[0].sequence
            break
    fold = Fold()
    begin, end = Offset(to.segment, max(0, first - 1)), Offset(to.segment, upto)
    async with aclosing(history.read(begin, upto=end)) as batches:
        async for records in batches:
            for record in records:
                fold.add(record.event())
    return [
        Recovered(
            m.id,
            m.role,
            m.content if isinstance(m.content, str) else "",
            m.reasoning,
            m.first,
            m.status in _NOT_COMPLETED,
        )
        for m in fold.messages()
        if m.run == run
    ]


def _text(content: object) -> str:
    return content if isinstance(content, str) else ""
