"""Answers the broker's question who may come in, and shows out whose token counts no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog
from session_fabric import Fabric
from session_fabric.jetstream.admissions import Admissions, Connected
from session_fabric.jetstream.seeds import Kind, Seed
from session_fabric.words.errors import FabricError, InvalidRequest

from session_fabric_gateway.auth import Authenticator
from session_fabric_gateway.natives.admitting import admit, stands
from session_fabric_gateway.natives.user_jwt import keep_out, let_in, read_question
from session_fabric_gateway.tokens.standing import Standing

log = structlog.get_logger()

# A question is answered within the server's patience (`authorization.timeout`), or not at all.
_ANSWER_S: Final = 1.2
# What was being let in while a revocation was heard is not among those who are connected yet.
_AGAIN_S: Final = 1.0
# What nobody has told us of is found so: who came in by a gateway that had not heard, and is gone.
_LOOK_S: Final = 30.0


class Authority:
    """One process's. `async with` it for as long as it answers; several share the questions."""

    def __init__(
        self,
        fabric: Fabric,
        authenticator: Authenticator,
        standing: Standing,
        seeds: dict[Kind, Seed],
    ) -> None:
        """`seeds`: the account's that the server believes, and the curve key that it seals questions for, if any."""
        self._issuer = seeds["account"]
        self._curve = seeds.get("curve")
        self._fabric = fabric
        self._authenticator = authenticator
        self._standing = standing
        self._account = ""  # as the broker calls the one that we are in
        self._admissions: Admissions | None = None
        self._wake = asyncio.Event()
        self._ends: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        admissions = self._fabric.admitting(self._answer)
        if admissions is None:
            raise InvalidRequest("There is no nats-server that could ask who may come in.")
        self._account = await admissions.account()
        self._admissions = admissions
        self._ends = [
            self._standing.on_changed(lambda _: self._wake.set()),
            self._fabric.broker.on_connection(lambda connected: self._wake.set() if connected else None),
        ]
        await admissions.open()
        self._wake.set()  # what was revoked while nobody was there
        self._task = asyncio.create_task(self._keep(admissions), name="native connections")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._admissions is not None
        assert self._task is not None
        for end in self._ends:
            end()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._admissions.close()

    # --- who comes in -------------------------------------------------------------------------------

    async def _answer(self, data: bytes, curve: str) -> bytes | None:
        now_s = time.time()
        try:
            if self._curve is not None:
                data = self._curve.open(data, curve)
            elif curve:
                raise InvalidRequest("The question is sealed, and there is no curve key (SX…) here to open it.")
            asked = read_question(data, now_s=now_s)
        except InvalidRequest as error:
            log.error("native_question_unreadable", detail=error.message)
            return None
        try:
            async with asyncio.timeout(_ANSWER_S):
                grant = await self._authenticator.authenticate(asked.token)
            user = admit(asked, grant, self._account)
        except TimeoutError:
            return None
        except FabricError as error:
            reason = str(error.facts.get("reason", ""))
            log.warning("native_refused", code=error.code, reason=reason)
            return self._sealed(keep_out(asked, f"{error.code} {reason}".strip(), self._issuer, now_s=now_s), curve)
        log.info("native_admitted", tenant=grant.tenant, participant=grant.participant, token_id=grant.token_id)
        return self._sealed(let_in(asked, user, self._issuer, now_s=now_s), curve)

    def _sealed(self, answer: bytes, curve: str) -> bytes:
        return answer if self._curve is None else self._curve.seal(answer, curve)

    # --- who has to go ------------------------------------------------------------------------------

    async def _keep(self, admissions: Admissions) -> None:
        again = False
        while True:
            try:
                async with asyncio.timeout(_AGAIN_S if again else _LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            again = self._wake.is_set()
            self._wake.clear()
            try:
                await self._look(admissions)
            except FabricError as error:
                log.warning("natives_not_looked_at", code=error.code, detail=error.message)

    async def _look(self, admissions: Admissions) -> None:
        """Look at all who are connected, and cut at once who must not be."""
        async with asyncio.TaskGroup() as cutting:

            def seen(connected: Connected) -> None:
                if not stands(connected.user, connected.subscriptions, self._standing.left):
                    cutting.create_task(self._cut(admissions, connected))

            await admissions.look(seen)

    async def _cut(self, admissions: Admissions, connected: Connected) -> None:
        try:
            await admissions.cut(connected)
        except FabricError as error:
            # It asks in vain all the same: the relay looks at the token with each request.
            log.error("native_not_cut", code=error.code, detail=error.message)
        else:
            log.info("native_cut", server=connected.server, connection=connected.number)
