"""What a user can name is documented: a new error, option, metric or setting without a word about it turns red here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import session_fabric
import session_fabric_cli
import session_fabric_gateway
from session_fabric.audit import Act
from session_fabric.authoring import Message, ToolCall
from session_fabric.words import errors
from session_fabric.words.errors import FabricError
from session_fabric.words.measures import ALL
from session_fabric_cli.main import command_line
from session_fabric_cli.tree import ROOT, Branch
from session_fabric_gateway import codes, main, openapi, operations
from session_fabric_gateway.capabilities.registry import CAPABILITIES
from session_fabric_gateway.codes import STATUS, Close
from session_fabric_gateway.durable.described import described
from session_fabric_gateway.metrics import Metrics
from session_fabric_gateway.settings import Limits, Settings
from session_fabric_gateway.tokens.shape import Reason

from tests.docs.log_events import Logged, logged
from tests.docs.pages import ROOT as PROJECT
from tests.docs.pages import coded, page, rows, sections

# Branches of the tree, never raised themselves.
ABSTRACT = {errors.Refused, errors.Unavailable, errors.BrokerUnsuitable, errors.LocalTrouble, errors.InvalidInput}
ABSTRACT_TOO = {errors.Denied, FabricError}


def _classes(root: type[FabricError]) -> Iterator[type[FabricError]]:
    """Yield the error classes of the product; tests make some of their own."""
    if root.__module__.startswith("session_fabric"):
        yield root
    for below in root.__subclasses__():
        yield from _classes(below)


def _import_all() -> None:
    for package in (session_fabric, session_fabric_gateway, session_fabric_cli):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)


def _codes(column: str) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", column))


# --- logs ---------------------------------------------------------------------------------------------


def test_every_event_of_the_log_is_on_the_logs_page_with_its_levels_and_fields() -> None:
    table = sections(page("docs/logs.md"))["Events"]
    documented = {
        row[0].strip("`"): Logged(frozenset(row[1].split(", ")), frozenset(re.findall(r"`(\w+)`", row[2])))
        for row in rows(table)
        if len(row) == 4 and row[0].startswith("`")
    }
    assert documented == logged()


# --- errors -------------------------------------------------------------------------------------------


def _protocol_errors() -> dict[str, tuple[str, str]]:
    """Return each code of the protocol's error table, with its HTTP status and whether to retry."""
    section = sections(page("docs/protocol.md"))["7. Errors and close codes"]
    found = {}
    for row in rows(section):
        if len(row) == 4 and row[1].isdigit():
            found |= dict.fromkeys(_codes(row[0]), (row[1], row[2]))
    return found


def test_every_error_class_is_on_the_errors_page_with_its_code() -> None:
    listed = {row[0].strip("`"): row[1].strip("`") for row in rows(page("docs/errors.md")) if len(row) == 4}
    listed.pop("class")
    ours = {
        cls.__name__: cls.code
        for cls in _classes(FabricError)
        if cls.__module__ == errors.__name__ and cls not in ABSTRACT | ABSTRACT_TOO
    }
    assert listed == ours | {"InvalidRequest": "invalid_request"}


def test_every_error_that_can_be_raised_is_named_in_the_protocol() -> None:
    _import_all()
    section = sections(page("docs/protocol.md"))["7. Errors and close codes"]
    raised = {cls.code for cls in _classes(FabricError) if cls not in ABSTRACT | ABSTRACT_TOO}
    assert raised - coded(section) == set()


def test_the_protocols_error_table_is_what_the_gateway_does() -> None:
    documented = {code: int(status) for code, (status, _) in _protocol_errors().items()}
    assert documented == dict(STATUS)


def test_the_protocol_says_truly_which_errors_to_try_again() -> None:
    _import_all()
    retryable = {cls.code for cls in _classes(FabricError) if cls.retryable} & set(STATUS)
    retryable |= {code for code in STATUS if codes.facts_of(_of(code))["retryable"]}
    assert {code for code, (_, retry) in _protocol_errors().items() if retry == "yes"} == retryable


def _of(code: str) -> FabricError:
    return type("Error", (FabricError,), {"code": code})("")


def test_every_close_code_is_in_the_protocol_and_no_other() -> None:
    section = sections(page("docs/protocol.md"))["7. Errors and close codes"]
    documented = {int(row[0]) for row in rows(section) if len(row) == 3 and row[0].isdigit()}
    ours = {value.code for value in vars(codes).values() if isinstance(value, Close)}
    assert documented == ours | {1000}  # 1000 is the client's own


def test_the_protocol_lists_every_operation_of_the_socket() -> None:
    section = sections(page("docs/protocol.md"))["4. WebSocket: `GET /v1/ws`, subprotocol `session-fabric.v1`"]
    assert {op for op in (*operations._MODELS, *CAPABILITIES) if f'"op":"{op}"' not in section} == set()


def test_the_protocol_lists_every_path_and_query_field_of_http() -> None:
    section = sections(page("docs/protocol.md"))["5. HTTP"]
    missing = []
    for path, methods in openapi.document()["paths"].items():
        if path in described():  # the protocol of durable streams has them
            continue
        if path.replace("{session}", "{id}") not in section:
            missing.append(path)
        for operation in methods.values():
            names = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
            missing += [f"{path} {name}" for name in names if f"{name}=" not in section]
    assert missing == []


# --- the command line ---------------------------------------------------------------------------------


# Typer brings a click of its own, so that its commands are known by what they have.
def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from _commands(below, f"{path} {name}")
    else:
        yield path, command


SHARED = {"--context", "--nats", "--tenant", "--output", "--timeout"}
COMMANDS = dict(_commands(command_line(), "fabricctl"))


def _options(command: Any) -> set[str]:
    params = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    return {name for p in params for name in (*p.opts, *p.secondary_opts) if name.startswith("--")} - {"--help"}


def test_the_cli_page_has_a_section_for_each_command_and_no_other() -> None:
    assert {name for name in sections(page("docs/cli.md")) if name.startswith("fabricctl ")} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented_with_its_options_and_no_others(name: str) -> None:
    section, options = sections(page("docs/cli.md"))[name], _options(COMMANDS[name])
    said = set(re.findall(r"--[a-z][a-z-]*", section))
    shared = SHARED if options >= SHARED else set()  # said once for all commands on a running broker
    assert (said - shared, said - options) == (options - shared, set())


def test_a_command_is_listed_with_the_first_line_of_its_own_help() -> None:
    own = {name: (command.help or "").strip().partition("\n")[0] for name, command in COMMANDS.items()}
    assert dict(_listed(ROOT, "fabricctl")) == own


def _listed(branch: Branch, path: str) -> Iterator[tuple[str, str]]:
    for name, entry in branch.below.items():
        if isinstance(entry, Branch):
            yield from _listed(entry, f"{path} {name}")
        else:
            yield f"{path} {name}", entry.help


def test_every_environment_variable_is_documented() -> None:
    read = set()
    for member in ("fabric", "gateway", "cli"):
        for path in (PROJECT / member / "src").rglob("*.py"):
            read |= set(re.findall(r"\bSESSION_FABRIC_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
    text = page("docs/cli.md") + page("docs/settings.md")
    assert {name for name in read - {"SESSION_FABRIC_NAME"} if name not in text} == set()  # NAME stands for any


# --- the gateway --------------------------------------------------------------------------------------


def test_the_metrics_page_lists_every_metric_with_its_labels_and_no_other() -> None:
    kinds = {"gauge": "", "counter": "_total", "histogram": ""}
    ours = {}
    for name, family in Metrics().registry._names_to_collectors.items():
        kind = family._type
        if name == f"{family._name}{kinds[kind]}":
            ours[name] = (kind, ", ".join(f"`{label}`" for label in family._labelnames))
    listed = {row[0].strip("`"): (row[1], row[2]) for row in rows(page("docs/metrics.md")) if row[0].startswith("`")}
    assert listed == ours


def test_the_metrics_page_names_every_value_of_a_label() -> None:
    told = {row[0].strip("`"): row[3] for row in rows(page("docs/metrics.md")) if row[0].startswith("`")}
    for measure in ALL:
        for value in getattr(measure, "values", ()):
            assert f"`{value}`" in told[measure.name], measure.name
    for reason in get_args(Reason):
        assert f"`{reason}`" in told["session_fabric_gateway_auth_refusals_total"]


def _flags() -> dict[str, set[str]]:
    """Return the gateway's flags by what they set."""
    found: dict[str, set[str]] = {}
    for action in main._parser()._actions:
        found.setdefault(action.dest, set()).update(name for name in action.option_strings if name.startswith("--"))
    return {name: flags for name, flags in found.items() if name != "help"}


def test_the_settings_page_lists_every_setting_with_its_flag_variable_and_default() -> None:
    flags = _flags()
    expected = {}
    for name, field in Settings.model_fields.items():
        if name != "limits":
            default = "" if field.default in (None, ()) else f"`{field.default}`"
            default = "the demo page" if name == "demo" else default
            flag = " ".join(f"`{flag}`" for flag in flags.get(name, ()))
            expected[f"`{name}`"] = [flag, f"`SESSION_FABRIC_{name.upper()}`", default]
    listed = {row[0]: row[1:4] for row in rows(page("docs/settings.md")) if len(row) == 5 and row[0] != "setting"}
    assert listed == expected


def test_the_settings_page_lists_every_other_flag() -> None:
    listed = {row[0].strip("`").split()[0] for row in rows(page("docs/settings.md")) if row[0].startswith("`--")}
    assert listed == {flag for name, flags in _flags().items() if name not in Settings.model_fields for flag in flags}


def test_the_settings_page_lists_every_limit() -> None:
    listed = {row[0]: row[1] for row in rows(page("docs/settings.md")) if row[0].startswith("`max_")}
    assert listed == {f"`{name}`": str(value) for name, value in Limits().model_dump().items()}


# --- the SDK ------------------------------------------------------------------------------------------

PUBLIC = [
    session_fabric.Fabric,
    session_fabric.Session,
    session_fabric.Document,
    session_fabric.State,
    session_fabric.Run,
    session_fabric.Subscription,
    session_fabric.Work,
    session_fabric.DeadLetter,
    Message,
    ToolCall,
]
# For the gateway and other shells on this floor, not for an agent's author.
INNER = {
    "Fabric.tenanted",
    "Fabric.delete_counted",
    "Fabric.admitting",
    "Fabric.answering",
    "Fabric.broker",
    "Fabric.check_served",
    "Fabric.presence",
    "Fabric.tell",
    "Session.around",
    "Subscription.make_anew",
    "Run.disagree",
    "Run.first_text_after_s",
    "Run.force_end",
    "Run.leaving",
    "Run.left",
    "Run.steer",
    "Run.take_hold",
    "Session.check",
    "Session.check_kept",
    "Session.within",
    "Session.append_own",
    "Session.follower",
    "Session.on_record",
    "Session.heard_own",
    "Session.on_said",
    "Session.read",
    "Session.read_back",
    "Session.counted_by",
    "Run.agree_to_stop",
    "Run.stop",
}


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_every_public_call_is_on_the_sdk_page(cls: type) -> None:
    text = page("docs/sdk.md")
    names = [
        name
        for part in cls.__mro__
        if part is cls or part.__module__.startswith("session_fabric.facets.")
        for name, value in vars(part).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, (property, classmethod)))
    ]
    missing = [n for n in names if f"{cls.__name__}.{n}" not in INNER and not re.search(rf"[.`]{n}\b", text)]
    assert missing == []


def test_every_act_of_the_audit_is_on_its_page() -> None:
    listed = [re.findall(r"`([a-z_.]+)`", row[0]) for row in rows(page("docs/guides/export.md")) if "." in row[0]]
    assert sorted(act for acts in listed for act in acts) == sorted(get_args(Act))


def test_the_sdk_page_gives_the_arguments_as_they_are() -> None:
    text = " ".join(page("docs/sdk.md").split())
    for call, function in (
        ("Fabric.connect", session_fabric.Fabric.connect),
        ("fabric.subscribe", session_fabric.Fabric.subscribe),
        ("session.append", session_fabric.Session.append),
        ("session.control", session_fabric.Session.control),
        ("session.follow", session_fabric.Session.follow),
        ("session.run", session_fabric.Session.run),
        ("session.seen", session_fabric.Session.seen),
        ("session.signal", session_fabric.Session.signal),
    ):
        assert f"`{call}({_arguments(function)})`" in text


def _arguments(function: object) -> str:
    assert callable(function)
    parts: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = parameter.default
        shown = f'"{default}"' if isinstance(default, str) else repr(default)
        parts.append(parameter.name if default is parameter.empty else f"{parameter.name}={shown}")
    return ", ".join(parts)
