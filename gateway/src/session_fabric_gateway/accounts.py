"""Who has done how much lately, and whether they may do more. A rule: time comes in."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

from session_fabric.history import Read
from session_fabric.rules.rates import Bucket, Rate, take_all
from session_fabric.words.errors import LimitExceeded, RateLimited

from session_fabric_gateway.allowances import Allowances, Kind, OfConnection, OfMany
from session_fabric_gateway.auth import Grant

Scope = Literal["connection", "participant", "program", "tenant", "address"]
OfAddressKind = Literal["requests", "connections"]
# Who speaks for many: a limit for one person would be none for them.
_PROGRAMS: Final = frozenset({"agent", "service"})
# When to look again for room among what is open at a time: nobody knows.
_ROOM_AGAIN_MS: Final = 2000
# So many accounts are kept. Beyond, those of which nothing is open are forgotten.
_MOST: Final = 50_000
# So many are looked at in one turn of the loop: a tenth of a millisecond.
A_SLICE: Final = 64
# Of history a body of so many bytes counts as one event more.
_BODY_BYTES: Final = 4096
# What a read is let in for, and pays for before it brings anything: else all that wait go at once as soon as there is
# a little of the rate again, and many whole batches on one heap hold up the broker, the loop, and everybody's tokens.
# Of a small burst a part: a read needs no more than that to begin.
_ADVANCE: Final = 64
_OF_A_BURST: Final = 100
# What is no request, or far too much of one, costs so much more than its bytes: it is put together, and looked at, for
# nothing, 2 ms a MiB in which nobody else has a turn; a client in earnest never sends it.
UNREAD_COSTS: Final = 3
_NO_LIMITS: Final = OfConnection(operations=None, appends=None, bytes=None, opens=None, history=None, refusals=None)


class Account:
    """What one participant, tenant or address has used. `held`: connections and requests under way."""

    __slots__ = ("_buckets", "held", "subscriptions")

    def __init__(self) -> None:
        self.held = 0
        self.subscriptions = 0
        self._buckets: dict[Kind, Bucket] = {}

    def bucket(self, of: Kind) -> Bucket:
        found = self._buckets.get(of)
        if found is None:
            found = self._buckets[of] = Bucket()
        return found

    def idle(self, now: float) -> bool:
        """Say whether forgetting it changes nothing."""
        return not self.held and all(bucket.full(now) for bucket in self._buckets.values())


class Held(NamedTuple):
    """One who is held to limits, and how to call him."""

    scope: Scope
    who: str
    account: Account
    limits: OfConnection | OfMany


class Meter:
    """What one connection, or one request, uses of what its participant and tenant may."""

    __slots__ = ("_accounts", "_held", "_rates", "_subscriptions")

    def __init__(self, accounts: Accounts, held: Sequence[Held]) -> None:
        self._accounts = accounts
        self._held = held
        self._subscriptions = 0
        self._rates: dict[Kind, tuple[list[tuple[Bucket, Rate | None]], list[Held]]] = {}

    def spend(self, of: Kind, now: float, cost: float = 1.0) -> None:
        """Count it. Raises `RateLimited`: then it counts nothing."""
        buckets, held = self._limits(of)
        refusal = take_all(buckets, now, cost)
        if refusal is not None:
            rate = buckets[refusal.place][1]
            assert rate is not None
            raise self._accounts.limited(held[refusal.place], of, rate, refusal.wait_s)

    def owe(self, of: Kind, now: float, cost: float = 1.0) -> float:
        """Count what has happened already; return for how long nothing more of it should."""
        buckets, held = self._limits(of)
        longest = 0.0
        for (bucket, rate), one in zip(buckets, held, strict=True):
            if rate is not None:
                bucket.take(rate, now, cost)
                wait_s = bucket.wait_s(rate, now, 0.0)
                if wait_s > longest:
                    longest = wait_s
                    self._accounts.on_limited(f"{one.scope}.{of}")
        return longest

    def check_history(self, now: float) -> None:
        """Raises `RateLimited` as long as more was read from the log than may be."""
        self.spend("history", now, 0.0)

    def begin_history(self, now: float) -> float:
        """Let one read of the log begin; return its advance, which `owe_history` sets off. Raises as `check_history`.

        Whoever never says what was read has paid for that much.
        """
        rates = [rate for _, rate in self._limits("history")[0] if rate is not None]
        advance = min([_ADVANCE, *(rate.burst / _OF_A_BURST for rate in rates)])
        self.spend("history", now, advance)
        return advance

    def owe_history(self, now: float, read: Read, advance: float = 0.0) -> float:
        """Count what was read from the log; return for how long nothing more should be."""
        return self.owe("history", now, read.events + read.bytes // _BODY_BYTES - advance)

    def subscribe(self) -> None:
        """Count a session that is opened. Raises `LimitExceeded`."""
        for one in self._held:
            if isinstance(one.limits, OfMany):
                self._accounts.check_room(one, "subscriptions", one.account.subscriptions, one.limits.subscriptions)
        self._count(1)

    def unsubscribe(self) -> None:
        self._count(-1)

    def _count(self, by: int) -> None:
        self._subscriptions += by
        for one in self._held:
            one.account.subscriptions += by

    def told(self) -> dict[str, dict[str, float]]:
        """Return the rates that a client may want to keep to: the tightest of all that hold for it."""
        found = {}
        for of in ("operations", "appends", "bytes", "opens", "history"):
            rates = [rate for _, rate in self._limits(of)[0] if rate is not None]
            if rates:
                found[of] = min(rates, key=lambda rate: rate.per_s)._asdict()
        return found

    def close(self) -> None:
        """Give back what is open."""
        self._count(-self._subscriptions)
        for one in self._held:
            one.account.held -= 1
        self._held = ()
        self._rates.clear()

    def _limits(self, of: Kind) -> tuple[list[tuple[Bucket, Rate | None]], list[Held]]:
        found = self._rates.get(of)
        if found is None:
            held = [one for one in self._held if getattr(one.limits, of, None) is not None]
            found = self._rates[of] = ([(one.account.bucket(of), getattr(one.limits, of)) for one in held], held)
        return found


class Accounts:
    """The accounts of one process. `on_limited` is told the name of each limit that was reached."""

    def __init__(self, allowances: Allowances, on_limited: Callable[[str], None]) -> None:
        self.allowances = allowances
        self.on_limited = on_limited
        # Those that were looked at longest ago are in front.
        self._accounts: OrderedDict[tuple[Scope, str], Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def connection(self, grant: Grant, now: float) -> Meter:
        """Return the meter of a new socket; `close` it. Raises `RateLimited`, `LimitExceeded`."""
        return self._meter(grant, now, "connections", own=True)

    def request(self, grant: Grant, now: float, *, writes: bool, size: int) -> Meter:
        """Return the meter of a request over HTTP; `close` it when it is answered. Raises as `connection` does."""
        meter = self._meter(grant, now, "requests", own=False)
        try:
            if writes:
                meter.spend("appends", now)
            if size:
                meter.spend("bytes", now, size)
        except RateLimited:
            meter.close()
            raise
        return meter

    def asked(self, grant: Grant, now: float, *, size: int) -> None:
        """Count what a native agent asks at the broker, which knows no rates. Raises `RateLimited`."""
        meter = self._meter(grant, now, "operations", own=False)
        try:
            meter.spend("bytes", now, size)
        finally:
            meter.close()

    def reading(self, grant: Grant, now: float) -> Meter:
        """Return a meter for what is read of the log alone, of somebody who has nothing open here."""
        return Meter(self, self._who(grant, now))

    def spend_of_address(self, address: str, now: float, of: OfAddressKind) -> None:
        """Count what a stranger does. Raises `RateLimited`: then it counts nothing."""
        rate: Rate | None = getattr(self.allowances.address, of)
        if rate is not None:
            account = self._account("address", address, now)
            refusal = take_all([(account.bucket(of), rate)], now)
            if refusal is not None:
                raise self.limited(Held("address", "This address", account, _NO_LIMITS), of, rate, refusal.wait_s)

    def give_back(self, address: str, now: float, of: OfAddressKind) -> None:
        """Count it no more: it was no stranger who did it."""
        rate: Rate | None = getattr(self.allowances.address, of)
        if rate is not None:
            self._account("address", address, now).bucket(of).give_back(rate)

    def sweep(self, now: float) -> None:
        """Look at the next `A_SLICE` accounts, in turn, and forget who has been quiet for long enough."""
        self._look_at_some(now)

    def _look_at_some(self, now: float) -> list[tuple[Scope, str]]:
        """Of those that were looked at longest ago forget the idle; return which of the others are not in use."""
        unused = []
        for key in list(islice(self._accounts, A_SLICE)):
            account = self._accounts[key]
            if account.idle(now):
                del self._accounts[key]
                continue
            self._accounts.move_to_end(key)
            if not account.held:
                unused.append(key)
        return unused

    def limited(self, one: Held, of: Kind, rate: Rate, wait_s: float) -> RateLimited:
        """Return what says that somebody is over a rate."""
        self.on_limited(f"{one.scope}.{of}")
        after_ms = math.ceil(wait_s * 1000)
        return RateLimited(
            f"{one.who} is over the limit of {rate.per_s:.15g} {of} a second.",
            hint=f"Try again in {after_ms} ms, and do less at a time.",
            scope=one.scope,
            of=of,
            per_s=rate.per_s,
            retry_after_ms=after_ms,
        )

    def check_room(self, one: Held, of: Literal["subscriptions", "open_connections"], n: int, most: int | None) -> None:
        if most is not None and n >= most:
            self.on_limited(f"{one.scope}.{of}")
            what = "sessions open" if of == "subscriptions" else "connections and requests under way"
            raise LimitExceeded(
                f"{one.who} has {most} {what}, which is the most.",
                hint="Close some of them.",
                limit=most,
                scope=one.scope,
                of=of,
                retry_after_ms=_ROOM_AGAIN_MS,
            )

    def _who(self, grant: Grant, now: float) -> list[Held]:
        """Return whose limits hold for somebody: its own, and its tenant's."""
        limits = self.allowances.of(grant.tenant)
        program = grant.role in _PROGRAMS
        scope: Literal["program", "participant"] = "program" if program else "participant"
        whole = f"{grant.tenant} {grant.participant}"  # no name has a blank in it
        return [
            Held(
                scope,
                grant.participant,
                self._account(scope, whole, now),
                limits.program if program else limits.participant,
            ),
            Held("tenant", f"Tenant {grant.tenant}", self._account("tenant", grant.tenant, now), limits.tenant),
        ]

    def _meter(
        self, grant: Grant, now: float, of: Literal["connections", "requests", "operations"], *, own: bool
    ) -> Meter:
        held = self._who(grant, now)
        for one in held:
            assert isinstance(one.limits, OfMany)
            self.check_room(one, "open_connections", one.account.held, one.limits.open_connections)
        if own:
            # A program's connections are held together alone; that it goes on when refused is counted of each.
            alone = self.allowances.of(grant.tenant).connection
            if held[0].scope == "program":
                alone = _NO_LIMITS.model_copy(update={"refusals": alone.refusals})
            held.insert(0, Held("connection", "This connection", Account(), alone))
        meter = Meter(self, held)
        meter.spend(of, now)
        for one in held:
            one.account.held += 1
        return meter

    def _account(self, scope: Scope, key: str, now: float) -> Account:
        found = self._accounts.get((scope, key))
        if found is None:
            if len(self._accounts) >= _MOST:
                self._make_room(now)
            found = self._accounts[scope, key] = Account()
        return found

    def _make_room(self, now: float) -> None:
        """Forget those that are idle, else whoever of those that are not in use was looked at longest ago."""
        before = len(self._accounts)
        unused = self._look_at_some(now)
        if unused and len(self._accounts) == before:
            del self._accounts[unused[0]]
