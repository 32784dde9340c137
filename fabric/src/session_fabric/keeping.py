"""Saying how long sessions are kept, and that nothing of them may go: of one, or of all of a tenant."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from session_fabric import audit
from session_fabric.parts import Parts
from session_fabric.ports import Broker
from session_fabric.rules import holds as rules
from session_fabric.rules import retention
from session_fabric.rules.holds import Hold, Holds
from session_fabric.rules.retention import Given, Retention
from session_fabric.tenants import Tenants
from session_fabric.words.arguments import check_text
from session_fabric.words.errors import Forbidden
from session_fabric.writer import Identity


class Kept(NamedTuple):
    """What holds for a session: `retention`, made of what is said of it (`own`) and of its tenant; and its holds,
    `tenant_holds` those on all of the tenant's sessions."""

    retention: Retention
    own: Given
    tenant: Given
    holds: Holds = ()
    tenant_holds: Holds = ()


async def of_session(parts: Parts) -> Kept:
    """Return what holds for a session; see `Session.retention`."""
    record = await parts.directory.load(parts.place, fresh=True)
    tenant = await Tenants(parts.broker).rules(record.tenant)
    whole = retention.effective(tenant.retention, record.retention)
    return Kept(whole, record.retention, tenant.retention, record.holds, tenant.holds)


async def of_tenant(broker: Broker, tenant: str) -> Kept:
    """Return what holds for a tenant's sessions of which nothing else is said; see `Fabric.retention`."""
    said = await Tenants(broker).rules(tenant)
    return Kept(retention.effective(said.retention, {}), {}, said.retention, (), said.holds)


async def set_of_session(parts: Parts, changes: Mapping[str, Any]) -> Kept:
    _check_role(parts.identity, "change how long a session is kept")
    record = await parts.directory.load(parts.place)
    new = retention.changed(record.retention, changes)
    who = parts.identity.participant
    await audit.note(parts.broker, record.tenant, record.session, who, "session.retention", retention=new)
    await parts.directory.change(
        parts.place, lambda r: r.model_copy(update={"retention": retention.changed(r.retention, changes)})
    )
    return await of_session(parts)


async def set_of_tenant(broker: Broker, identity: Identity, changes: Mapping[str, Any]) -> Kept:
    _check_role(identity, "change how long a tenant's sessions are kept")
    tenants = Tenants(broker)
    new = retention.changed((await tenants.rules(identity.tenant)).retention, changes)
    await audit.note(broker, identity.tenant, None, identity.participant, "tenant.retention", retention=new)
    await tenants.change(
        identity.tenant, lambda r: r.model_copy(update={"retention": retention.changed(r.retention, changes)})
    )
    return await of_tenant(broker, identity.tenant)


async def hold_session(parts: Parts, reason: str, name: str) -> Hold:
    _check_role(parts.identity, "hold a session")
    await parts.directory.load(parts.place)
    new = _hold(parts.identity, reason, name)
    rules.placed((), new)
    await audit.note(
        parts.broker, parts.place.tenant, parts.place.session, new.by, "session.held", hold=name, reason=reason
    )
    record = await parts.directory.change(
        parts.place, lambda r: r.model_copy(update={"holds": rules.placed(r.holds, new)})
    )
    return next(hold for hold in record.holds if hold.name == name)


async def release_session(parts: Parts, name: str) -> Holds:
    _check_role(parts.identity, "release a session")
    record = await parts.directory.load(parts.place, fresh=True)
    rules.released(record.holds, name)
    who = parts.identity.participant
    await audit.note(parts.broker, record.tenant, record.session, who, "session.released", hold=name)
    record = await parts.directory.change(
        parts.place, lambda r: r.model_copy(update={"holds": rules.released(r.holds, name)})
    )
    return record.holds


async def hold_tenant(broker: Broker, identity: Identity, reason: str, name: str) -> Hold:
    _check_role(identity, "hold a tenant's sessions")
    new = _hold(identity, reason, name)
    rules.placed((), new)
    await audit.note(broker, identity.tenant, None, new.by, "tenant.held", hold=name, reason=reason)
    said = await Tenants(broker).change(
        identity.tenant, lambda r: r.model_copy(update={"holds": rules.placed(r.holds, new)})
    )
    return next(hold for hold in said.holds if hold.name == name)


async def release_tenant(broker: Broker, identity: Identity, name: str) -> Holds:
    _check_role(identity, "release a tenant's sessions")
    tenants = Tenants(broker)
    rules.released((await tenants.rules(identity.tenant)).holds, name)
    await audit.note(broker, identity.tenant, None, identity.participant, "tenant.released", hold=name)
    said = await tenants.change(
        identity.tenant, lambda r: r.model_copy(update={"holds": rules.released(r.holds, name)})
    )
    return said.holds


def _hold(identity: Identity, reason: str, name: str) -> Hold:
    check_text(name, "The hold's name")
    check_text(reason, "The hold's reason")
    return Hold(name=name, reason=reason, by=identity.participant, since=time.time_ns() // 1_000_000)


def _check_role(identity: Identity, what: str) -> None:
    if identity.role == "user":
        raise Forbidden(f"A user cannot {what}.", hint="Operators, supervisors, agents and services can.")
