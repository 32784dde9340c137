"""The commands: what each is called, where it is, and what it does in a line.

Nothing of a command is imported before it is called, or asked for its own help: `fabricctl` starts at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Leaf(NamedTuple):
    """A command: `module:function`, below `session_fabric_cli.commands`. `help`: its docstring's first line."""

    at: str
    help: str


class Branch(NamedTuple):
    help: str
    below: Mapping[str, Leaf | Branch]


STATE: Final[Mapping[str, Leaf | Branch]] = {
    "ls": Leaf("session_state:list_documents", "List a session's shared documents."),
    "get": Leaf(
        "session_state:get",
        "Print a document, with its revision on stderr; _tools and _seen are the fabric's own.",
    ),
    "history": Leaf("session_state:history", "List a document's newest versions, at most 8, newest first."),
    "put": Leaf(
        "session_state:put", "Write a whole document; with --revision only over that one, 0 where there must be none."
    ),
    "patch": Leaf("session_state:patch", "Change a document by a JSON Merge Patch (RFC 7396): null removes a field."),
    "rm": Leaf("session_state:remove", "Remove a document; what it was stays in its history."),
}
SESSION: Final[Mapping[str, Leaf | Branch]] = {
    "ls": Leaf("sessions:list_sessions", "List sessions, those first whose records changed last."),
    "show": Leaf(
        "sessions:show",
        "Show what happens in a session, and what is wrong: runs, waiting inputs, who is there, lag, failures.",
    ),
    "tail": Leaf(
        "following:tail", "Print a session's events as they come, until Ctrl-C. It goes on when the broker was away."
    ),
    "replay": Leaf(
        "following:replay", "Play a session again, as it went or faster: as a chat, or as events with their offsets."
    ),
    "runs": Leaf("session_runs:runs", "List a session's runs: how each ended, how long it took, where it stood still."),
    "presence": Leaf(
        "sessions:presence",
        "Show who is in a session, on which device, and whether the process that holds them lives.",
    ),
    "lag": Leaf(
        "sessions:lag",
        "Show how far devices and durable subscriptions are behind a session's end, and which inputs wait.",
    ),
    "state": Branch("A session's shared documents.", STATE),
    "fork": Leaf(
        "sessions:fork", "Make a session that shares the past of another up to an event, and goes its own way."
    ),
    "cancel": Leaf(
        "session_runs:cancel",
        "Ask a run to stop, and wait for what comes of it. Leaves with 0 when it was accepted, else with 1.",
    ),
    "abandon": Leaf(
        "session_runs:abandon",
        "End a run whose agent is gone, as failed; what it said is kept, and its agent, should it live, is refused.",
    ),
    "close": Leaf("keeping:close", "Close a session: it can be read and forked for ever, and takes nothing more."),
    "delete": Leaf(
        "keeping:delete",
        "Delete a session with all that it holds, and print what there was and what is left.",
    ),
    "redact": Leaf(
        "redacting:redact", "Remove what a message says, for good: the session goes on, and says that it was removed."
    ),
    "hold": Leaf("keeping:hold", "Have nothing of a session removed, by anybody, until it is released."),
    "release": Leaf("keeping:release", "End a hold on a session."),
    "export": Leaf(
        "archives:export", "Export a session to a file that can be verified anywhere, and made a session again."
    ),
    "import": Leaf("archives:import_session", "Make a session of an export; the same file again changes nothing."),
}
RETENTION: Final = {
    "show": Leaf("keeping:show", "Say how long what sessions hold is kept, and what holds it."),
    "set": Leaf("keeping:set_retention", "Set how long what sessions hold is kept: of a tenant, or of one session."),
}
AUDIT: Final = {
    "export": Leaf(
        "archives:export_audit",
        "Export who did what when to a tenant's sessions, as a file that can be verified anywhere.",
    ),
}
STREAM: Final = {
    "ls": Leaf("streams:list_streams", "List the streams that keep the sessions, with what they hold."),
    "show": Leaf("streams:show", "Show one stream: settings, replicas, what moves, and who subscribes."),
    "provision": Leaf(
        "provisioning:provision",
        "Make what is missing, set what an earlier version set otherwise, divide streams until there are --streams.",
    ),
    "check": Leaf(
        "streams:check",
        "Compare everything at the broker with what is needed; say each difference with its fix, and leave with 1.",
    ),
    "repair": Leaf(
        "streams:repair",
        "Mend in place what can be: settings, what is missing, moves that were interrupted. Says what it cannot.",
    ),
    "move-bucket": Leaf(
        "streams:move_bucket",
        "Move buckets of sessions, in use, to a stream of their own. Interrupted, `repair` brings it to its end.",
    ),
}

TENANT: Final = {
    "hold": Leaf(
        "keeping:hold_tenant", "Have nothing of any session of a tenant removed, by anybody, until it is released."
    ),
    "release": Leaf("keeping:release_tenant", "End a hold on a tenant."),
    "delete": Leaf(
        "offboarding:delete_tenant", "Delete a tenant with all that it has, and print what there was and what is left."
    ),
    "streams": Leaf(
        "tenants:own_streams",
        "Give a tenant streams of its own, while it is in use; change or divide those that it has.",
    ),
}

AGENT: Final = {
    "ls": Leaf("workers:list_workers", "List who serves which pool now: workers, with their runs in hand."),
    "grant": Leaf(
        "agents:grant",
        "Make credentials with which an agent connects to the broker, and may do what they grant and nothing else.",
    ),
    "inspect": Leaf("agents:inspect", "Say whose credentials they are, for which broker, and what they grant."),
    "rotate": Leaf(
        "agents:rotate",
        "Put another token into credentials, with the same grants; an agent that runs takes it without a restart.",
    ),
    "revoke": Leaf(
        "agents:revoke",
        "Let credentials count no more: their connections to the broker end, and what they ask is refused.",
    ),
}
BROKER: Final = {
    "config": Leaf(
        "broker:config", "Print what a nats-server's configuration must say; keys that are missing are made."
    ),
}
TOKEN: Final = {
    "keygen": Leaf(
        "tokens:keygen",
        "Make a key that signs tokens (Ed25519): FILE for the private one, FILE.public.json for gateways.",
    ),
    "mint": Leaf("tokens:mint", "Make a token, and print it."),
    "inspect": Leaf("tokens:inspect", "Say what is in a token. Leaves with 1 when a gateway would refuse it."),
    "revoke": Leaf("tokens:revoke", "Let tokens count no more, on all gateways, at once."),
}
BACKUP: Final = {
    "create": Leaf(
        "backup:create",
        "Write a tenant's sessions and durable streams into files, and what it has beside them, while all goes on.",
    ),
    "restore": Leaf(
        "backup:restore",
        "Make a backup's sessions and streams again, in the tenant that --tenant names; again it changes nothing.",
    ),
    "verify": Leaf("backup:verify", "Check every file of a backup; no broker is needed."),
}
KEYS: Final = {
    "show": Leaf("sealing:show", "Say under which keys of which tenants what is sealed is."),
    "rewrap": Leaf(
        "sealing:rewrap_keys",
        "Wrap the keys of all that is sealed anew, under each tenant's current key. Leaves with 1 when some are left.",
    ),
}
CONSUMER: Final = {
    "ls": Leaf(
        "consumers:list_consumers",
        "List every durable subscription of all tenants: pools, deadlines and others, and how far behind each is.",
    ),
    "lag": Leaf(
        "consumers:lag",
        "List the durable subscriptions that are behind, the oldest first. Leaves with 1 when there are some.",
    ),
    "drain": Leaf(
        "consumers:drain",
        "Hand out nothing more of a pool's inbox, and wait until all that was handed out is acknowledged.",
    ),
    "resume": Leaf("consumers:resume", "Hand out again what a drain has kept back."),
}
GATEWAY: Final = {
    "ls": Leaf("gateways:list_gateways", "List the gateways that live, with what each says of itself."),
    "drain": Leaf(
        "gateways:drain", "Have a gateway send its clients elsewhere; it stays, unready, until it is stopped."
    ),
}
CONTEXT: Final = {
    "ls": Leaf("contexts:list_contexts", "List the contexts: brokers by name."),
    "use": Leaf("contexts:use", "Use a context from now on, where none is named."),
    "set": Leaf("contexts:set_context", "Make a context, or change what is given of one that is there."),
    "show": Leaf("contexts:show", "Show what counts now, and who said it; or what a context has."),
    "rm": Leaf("contexts:remove", "Remove a context from the file. Nothing happens to its broker."),
}
ROOT: Final = Branch(
    "Develop with, look into and mend Session Fabric.",
    {
        "dev": Leaf("dev:dev", "Run a broker, a gateway with the demo page, and a demo agent, until Ctrl-C."),
        "session": Branch("List, show and follow sessions.", SESSION),
        "retention": Branch("How long what sessions hold is kept.", RETENTION),
        "audit": Branch("Who did what when.", AUDIT),
        "verify": Leaf(
            "archives:verify_file",
            "Check an exported file without a broker. Leaves with 1 and names the first line that is wrong.",
        ),
        "token": Branch("Make, read and revoke tokens, and the keys that sign them.", TOKEN),
        "agent": Branch("Who serves which pool, and credentials of agents that come to the broker themselves.", AGENT),
        "broker": Branch("What a nats-server is told so that it lets in only whom the fabric knows.", BROKER),
        "backup": Branch("A tenant as a directory of files, and back.", BACKUP),
        "stream": Branch("Make, look over, mend and divide the broker's streams.", STREAM),
        "tenant": Branch("What belongs to one tenant.", TENANT),
        "keys": Branch("Keys under which tenants' sessions are sealed.", KEYS),
        "consumer": Branch("Durable subscriptions: pools' inboxes and others, and how far behind they are.", CONSUMER),
        "gateway": Branch("The gateways that live, and sending their clients elsewhere.", GATEWAY),
        "doctor": Leaf("doctor:doctor", "Look at a broker and what runs there: each finding with what mends it."),
        "bench": Leaf(
            "bench:bench",
            "Measure appends, live delivery and catch-up of this deployment, in sessions of its own that it erases.",
        ),
        "context": Branch("Brokers by name, and which one is used.", CONTEXT),
        "completion": Leaf("completion:completion", "Print what makes a shell complete fabricctl's commands."),
    },
)
