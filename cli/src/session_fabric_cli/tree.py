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


SESSION: Final = {
    "ls": Leaf("sessions:list_sessions", "List sessions, newest first."),
    "show": Leaf("sessions:show", "Show a session: its record, and what was said last."),
    "tail": Leaf("sessions:tail", "Print a session's events as they come, until Ctrl-C."),
    "close": Leaf("keeping:close", "Close a session: it can be read and forked for ever, and takes nothing more."),
    "delete": Leaf(
        "keeping:delete",
        "Delete a session with all that it holds, and print what there was and what is left.",
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
TENANT: Final = {
    "hold": Leaf(
        "keeping:hold_tenant", "Have nothing of any session of a tenant removed, by anybody, until it is released."
    ),
    "release": Leaf("keeping:release_tenant", "End a hold on a tenant."),
}
AUDIT: Final = {
    "export": Leaf(
        "archives:export_audit",
        "Export who did what when to a tenant's sessions, as a file that can be verified anywhere.",
    ),
}
STREAM: Final = {
    "ls": Leaf("streams:list_streams", "List the streams that keep the sessions, with what they hold."),
    "provision": Leaf(
        "streams:provision", "Make the streams and buckets that are missing; refuse what is there and does not fit."
    ),
}
AGENT: Final = {
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
        "tenant": Branch("All sessions of a tenant.", TENANT),
        "audit": Branch("Who did what when.", AUDIT),
        "verify": Leaf(
            "archives:verify_file",
            "Check an exported file without a broker. Leaves with 1 and names the first line that is wrong.",
        ),
        "token": Branch("Make, read and revoke tokens, and the keys that sign them.", TOKEN),
        "agent": Branch("Credentials of agents that come to the broker themselves.", AGENT),
        "broker": Branch("What a nats-server is told so that it lets in only whom the fabric knows.", BROKER),
        "stream": Branch("Look at the broker's streams.", STREAM),
        "context": Branch("Brokers by name, and which one is used.", CONTEXT),
        "completion": Leaf("completion:completion", "Print what makes a shell complete fabricctl's commands."),
    },
)
