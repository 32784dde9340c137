"""How much who may do: defaults, and what an operator says instead, for all tenants or for one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from session_fabric.rules.rates import UNLIMITED, Rate, parse_rate
from session_fabric.words.errors import InvalidName, InvalidRequest
from session_fabric.words.names import check_tenant

Kind = Literal["operations", "appends", "bytes", "opens", "history", "requests", "connections", "refusals"]
Json = dict[str, Any]


def _rate(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:.15g}" if isinstance(value, float) else str(value)
    if isinstance(value, str):
        try:
            return parse_rate(value)
        except InvalidRequest as error:
            raise ValueError(f"{error.message} {error.hint}".rstrip(".")) from error
    if value is None or isinstance(value, Rate):
        return value
    raise ValueError("write 200 for so many a second, 200/1000 with a burst, or none")


def _count(value: object) -> object:
    if value == UNLIMITED:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("write a number from 1, or none")
    return value


# None: as much as one likes.
Limit = Annotated[Rate | None, BeforeValidator(_rate)]
Count = Annotated[int | None, BeforeValidator(_count)]
_MIB: Final = 1024 * 1024


class _Scope(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OfConnection(_Scope):
    """One socket of a person. `refusals`: how often it may be refused before it is closed."""

    operations: Limit = Rate(500, 2000)
    appends: Limit = Rate(300, 3000)
    bytes: Limit = Rate(4 * _MIB, 32 * _MIB)
    # A client that comes back opens all that it had.
    opens: Limit = Rate(50, 1000)
    # A session of 10,000 messages is there at once, and the next two.
    history: Limit = Rate(2000, 30_000)
    refusals: Limit = Rate(50, 1000)


class OfMany(_Scope):
    """All sockets and requests of one participant, or of one tenant, together."""

    operations: Limit
    appends: Limit
    bytes: Limit
    opens: Limit
    history: Limit
    requests: Limit
    connections: Limit
    open_connections: Count
    subscriptions: Count


class OfParticipant(OfMany):
    """A person, whatever the number of devices."""

    operations: Limit = Rate(1000, 4000)
    appends: Limit = Rate(600, 6000)
    bytes: Limit = Rate(8 * _MIB, 64 * _MIB)
    opens: Limit = Rate(100, 3000)
    history: Limit = Rate(3000, 60_000)
    requests: Limit = Rate(200, 1000)
    connections: Limit = Rate(10, 100)
    open_connections: Count = 100
    subscriptions: Count = 5000


class OfProgram(OfMany):
    """An agent or a service, which may speak for many people: about what one worker can carry."""

    operations: Limit = Rate(2500, 10_000)
    appends: Limit = Rate(1500, 6000)
    bytes: Limit = Rate(32 * _MIB, 128 * _MIB)
    opens: Limit = Rate(500, 10_000)
    history: Limit = Rate(15_000, 300_000)
    requests: Limit = Rate(1500, 6000)
    connections: Limit = Rate(100, 1000)
    open_connections: Count = 2000
    subscriptions: Count = 50_000


class OfTenant(OfMany):
    """Everybody of a tenant. Where there is one tenant alone, it is all that a worker can carry."""

    operations: Limit = Rate(5000, 20_000)
    appends: Limit = Rate(2000, 8000)
    bytes: Limit = Rate(64 * _MIB, 256 * _MIB)
    opens: Limit = Rate(1000, 20_000)
    history: Limit = Rate(30_000, 600_000)
    requests: Limit = Rate(2000, 8000)
    connections: Limit = Rate(500, 10_000)
    open_connections: Count = None
    subscriptions: Count = None


class OfAddress(_Scope):
    """What comes from one address and has not brought a good token. `strangers`: connections at a time."""

    connections: Limit = Rate(500, 5000)
    requests: Limit = Rate(200, 2000)
    strangers: Count = 1000


class OfGateway(_Scope):
    """The whole process."""

    strangers: Count = 4000


class ForTenant(_Scope):
    """What holds for one tenant."""

    connection: OfConnection = OfConnection()
    participant: OfParticipant = OfParticipant()
    program: OfProgram = OfProgram()
    tenant: OfTenant = OfTenant()


class Allowances(ForTenant):
    """What holds for everybody, and for the tenants that have limits of their own."""

    address: OfAddress = OfAddress()
    gateway: OfGateway = OfGateway()
    tenants: dict[str, ForTenant] = {}

    def of(self, tenant: str) -> ForTenant:
        return self.tenants.get(tenant, self)


def read_allowances(file: Path | None, given: Sequence[str], *, told_apart: bool = True) -> Allowances:
    """Put `given` ("participant.appends=50/200") above the file (TOML or JSON) above the defaults.

    `told_apart` False: whoever comes is the same participant, so that there are limits for connections alone, and what
    the operator says. Raises `InvalidRequest` that names the limit which is wrong.
    """
    from_file = {} if file is None else _read(file)
    tenants = from_file.pop("tenants", {})
    if not isinstance(tenants, dict):
        raise InvalidRequest(f"{file} has tenants that are no table.", hint="Write [tenants.acme.participant].")
    values = _merged({} if told_apart else _nothing_held(), from_file, _from_flags(given))
    shared = {name: value for name, value in values.items() if name in ForTenant.model_fields}
    where = "The limits" if file is None else f"The limits of {file}"
    own = {}
    for tenant, value in tenants.items():
        try:
            check_tenant(tenant)
        except InvalidName as error:
            raise InvalidRequest(f"{where} name a tenant {tenant!r:.60}.", hint=error.message) from error
        if not isinstance(value, dict):
            raise InvalidRequest(f"{where} of tenant {tenant} are no table.", hint=f"Write [tenants.{tenant}.tenant].")
        own[tenant] = _check(ForTenant, _merged(shared, value), f"{where}, tenant {tenant}")
    return _check(Allowances, {**values, "tenants": own}, where)


def _nothing_held() -> Json:
    scopes: dict[str, type[_Scope]] = {
        "participant": OfParticipant,
        "program": OfProgram,
        "tenant": OfTenant,
        "address": OfAddress,
    }
    return {scope: dict.fromkeys(model.model_fields, UNLIMITED) for scope, model in scopes.items()}


def _read(file: Path) -> Json:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"The limits cannot be read from {file}: {error.strerror}.") from error
    try:
        value = json.loads(data) if file.suffix == ".json" else tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise InvalidRequest(f"The limits in {file} are not {kind}: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"The limits in {file} are not a table.")
    return value


def _from_flags(given: Sequence[str]) -> Json:
    values: Json = {}
    for one in given:
        name, equals, value = one.partition("=")
        scope, dot, of = name.strip().partition(".")
        if not equals or not dot:
            raise InvalidRequest(
                f"The limit {one!r:.80} is not of the form NAME=VALUE.", hint="Write participant.appends=50/200."
            )
        values.setdefault(scope, {})[of] = value.strip()
    return values


def _merged(*parts: Mapping[str, Any]) -> Json:
    """Put later parts above earlier ones, limit by limit."""
    out: Json = {}
    for part in parts:
        for scope, value in part.items():
            below = out.get(scope)
            out[scope] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return out


Model = TypeVar("Model", bound=ForTenant)


def _check(model: type[Model], value: Json, where: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            why = "there is no such limit"
        elif first["type"] == "model_type":
            why = f"it is no table of limits; write {name}.appends=50/200, for example"
        raise InvalidRequest(f"{where} are wrong: {name:.100}: {why:.200}.", hint="See docs/settings.md.") from error
