"""What is asked of the fabric by those who have no rights at the broker but to ask."""

from __future__ import annotations

from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.services import Services
from session_fabric.words.subjects import inbox_prefix, service_subject
from structlog.testing import capture_logs

from tests.support.servers import NatsNode
from tests.support.waiting import eventually


async def test_who_asks_in_no_letters_or_with_anothers_inbox_gets_nothing_and_does_not_fill_the_log(
    own_server: NatsNode,
) -> None:
    asked: list[str] = []
    answered: list[bytes] = []

    async def answer(tenant: str, participant: str, token: str, op: str, payload: bytes) -> bytes:
        asked.append(op)
        return b"yes"

    connection = Connection()
    await connection.connect(own_server.url)
    services = Services(connection, answer)
    await services.open("one")
    subject, inbox = service_subject("acme", "agent:mallory", "home"), inbox_prefix("acme", "agent:mallory")
    await connection.tap_now("_INBOX_.>", lambda *message: answered.append(message[3]))
    lines = [
        b"PUB %b\xff %b.1 2\r\nhi\r\n" % (subject.encode(), inbox.encode()),
        b"PUB %b %b.\xff 2\r\nhi\r\n" % (subject.encode(), inbox.encode()),
        b"PUB %b _INBOX_.acme.other.1 2\r\nhi\r\n" % subject.encode(),
    ]
    with capture_logs() as logs:
        for line in lines * 10:
            assert connection._put(line)
        await connection.publish(service_subject("acme", "agent:mallory", "last"), b"hi", f"{inbox}.1")
        await eventually(lambda: answered == [b"yes"])
    assert asked == ["last"]
    assert [line["event"] for line in logs] == ["asked_with_a_foreign_inbox"]
    await services.close()
    await connection.close()
