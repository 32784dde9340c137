"""What each front end can, over which wire, and the tests that hold it: the data of docs/frameworks.md.

A test is `FILE::name`, from `tests/` on or from the root: a Python function, or the title of a test in Node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

CAPABILITIES: Final = (
    "streams",
    "reload in mid-answer",
    "dropped connection",
    "second device",
    "stop",
    "tool of the page",
    "approval",
)
# Why a cell is no plain yes, and whose that is; in the order of the page's notes.
NOTES: Final = {
    "mount": "The AI SDK's: nothing reconnects by a timer. The answer goes on when the tab is shown again, when the "
    "page is loaded, and with `resumeStream()`.",
    "six": "The AI SDK's: version 6 does not look at whether the tab is shown. The answer goes on when the page is "
    "loaded, and with `resumeStream()`.",
    "idle": "The framework's: between its own requests it listens to nothing. The conversation, and the answer that "
    "goes on, are there when the page is loaded.",
    "posts": "AG-UI's: what it has missed comes with its next run, or when it re-attaches.",
    "hydrate": "TanStack's: `webSocket()` cannot load what there is; the page lends it the `hydrate` of "
    "`fetchServerSentEvents()`.",
    "attach": "AG-UI's: `connectAgent()` of `HttpAgent` does nothing. An `AbstractAgent` of ten lines re-attaches by "
    "the gateway's path; so does posting the run again.",
    "stop": "Of the framework alone `stop()` turns away from the run, which goes on; the gateway's path `…/stop`, or "
    "`?abort=interrupt`, ends it for everybody.",
    "generic": "As interrupts of the kind `generic`: TanStack's typed approvals are bound to its own server.",
}


class Cell(NamedTuple):
    """`says` yes or how; `note` a key of `NOTES`."""

    says: str
    tests: Sequence[str]
    note: str | None = None


_PAGE: Final = "browser/test_frameworks.py"
_AI: Final = "dialects/node/ai-sdk.test.mjs"
_TAN: Final = "dialects/node/tanstack.test.mjs"
_AGUI: Final = "dialects/node/agui.test.mjs"
_OURS: Final = "clients/typescript/test"

_GROWS: Final = f"{_PAGE}::test_an_answer_grows_word_by_word"
_RELOAD: Final = f"{_PAGE}::test_a_reload_in_mid_answer_has_all_of_it_once"
_SECOND: Final = f"{_PAGE}::test_a_second_tab_has_the_conversation_and_the_answer_that_goes_on"
_CUT: Final = f"{_PAGE}::test_a_network_that_is_cut_in_mid_answer_costs_nothing"
_OFFLINE: Final = f"{_PAGE}::test_a_browser_that_is_offline_for_a_while_has_what_was_said_meanwhile"
_LOOKED: Final = f"{_PAGE}::test_the_ai_sdk_goes_on_after_a_cut_when_its_tab_is_looked_at_and_not_before"
_IDLE: Final = f"{_PAGE}::test_an_idle_tab_of_a_framework_alone_shows_nothing_until_it_is_loaded"
_MIRROR: Final = f"{_PAGE}::test_an_idle_tab_shows_what_another_one_says_and_is_answered"
_STOP: Final = f"{_PAGE}::test_stop_ends_the_run_and_what_was_said_stays"
_TOOL: Final = f"{_PAGE}::test_a_tool_of_the_page_is_called_and_the_answer_goes_on_with_what_it_gives"
_APPROVAL: Final = f"{_PAGE}::test_an_approval_is_given_by_a_click_in_whichever_tab"

_AI_STREAM: Final = f"{_AI}::streams an answer, word by word, and says how it ended"
_AI_RELOAD: Final = f"{_AI}::a page that is loaded again in mid-answer has all of it, once"
_AI_DROP: Final = f"{_AI}::a connection that is cut is told as a disconnect, and resumed without a gap"
_AI_SECOND: Final = f"{_AI}::another participant's device sees the run that it did not begin"
_AI_STOP: Final = f"{_AI}::to stop listening leaves the run alive; to stop the run ends it for everybody"
_AI_TOOL: Final = f"{_AI}::a tool of the page's is called, and what it gives goes to the run"
_AI_APPROVAL: Final = f"{_AI}::an approval is asked for and given (%s), on a page that was loaded again"

_TAN_STREAM: Final = f"{_TAN}::streams a run, with tools and thoughts"
_TAN_DROP: Final = f"{_TAN}::goes on where a connection was lost, and begins nothing anew"
_TAN_LOADED: Final = f"{_TAN}::has the conversation, and the answer that goes on"
_TAN_STOP: Final = f"{_TAN}::stop leaves the run alive, unless it is to interrupt it, and says nothing more of it"
_TAN_TOOL: Final = f"{_TAN}::calls the client's tools, and the run goes on with what they return"
_TAN_APPROVAL: Final = f"{_TAN}::has approvals as interrupts"

_AI_7: Final = (
    Cell("yes", [_GROWS, _AI_STREAM]),
    Cell("yes", [_RELOAD, _AI_RELOAD]),
    Cell("when shown", [_LOOKED, _AI_DROP], "mount"),
    Cell("on load", [_SECOND, _IDLE, _AI_SECOND], "idle"),
    Cell("yes", [_STOP, _AI_STOP], "stop"),
    Cell("yes", [_TOOL, _AI_TOOL]),
    Cell("yes", [_APPROVAL, _AI_APPROVAL]),
)

MATRIX: Final[dict[str, Sequence[Cell]]] = {
    "AI SDK 7, `DefaultChatTransport`": _AI_7,
    "AI SDK 7, `WebSocketChatTransport`": _AI_7,
    "AI SDK 6, `DefaultChatTransport`": (
        Cell("yes", [_AI_STREAM]),
        Cell("yes", [_AI_RELOAD]),
        Cell("on load", [_AI_DROP], "six"),
        Cell("on load", [_AI_SECOND], "idle"),
        Cell("yes", [_AI_STOP], "stop"),
        Cell("yes", [_AI_TOOL]),
        Cell("yes", [_AI_APPROVAL]),
    ),
    "TanStack AI, `fetchServerSentEvents`": (
        Cell("yes", [_GROWS, _TAN_STREAM]),
        Cell("yes", [_RELOAD, _TAN_LOADED]),
        Cell("yes", [_CUT, _OFFLINE, _TAN_DROP]),
        Cell("on load", [_SECOND, _IDLE, _TAN_LOADED], "idle"),
        Cell("yes", [_STOP, _TAN_STOP], "stop"),
        Cell("yes", [_TOOL, _TAN_TOOL]),
        Cell("yes", [_APPROVAL, _TAN_APPROVAL], "generic"),
    ),
    "TanStack AI, `webSocket`": (
        Cell("yes", [_GROWS, _TAN_STREAM]),
        Cell("with HTTP's `hydrate`", [_RELOAD], "hydrate"),
        Cell("yes", [_CUT, _OFFLINE, _TAN_DROP]),
        Cell("on load", [_SECOND, _IDLE], "idle"),
        Cell("yes", [_STOP, _TAN_STOP], "stop"),
        Cell("yes", [_TOOL, _TAN_TOOL]),
        Cell("yes", [_APPROVAL, _TAN_APPROVAL], "generic"),
    ),
    "AG-UI, `HttpAgent`": (
        Cell("yes", [f"{_AGUI}::is streamed under the client's own names"]),
        Cell("by our path", [f"{_AGUI}::in mid-answer: messages first, then the run as it goes on"], "attach"),
        Cell("the run again", [f"{_AGUI}::after a cut: the same run id again"], "attach"),
        Cell("with its next run", [f"{_AGUI}::that another device has begun is there when this one speaks"], "posts"),
        Cell("yes", [f"{_AGUI}::by the gateway's path ends it for everybody"], "stop"),
        Cell("yes", [f"{_AGUI}::a tool of the client is pending, and its result goes on with the run"]),
        Cell("yes", [f"{_AGUI}::an approval is an interrupt, and resume answers it"]),
    ),
    "AI SDK, our `/ai-sdk`": (
        Cell("yes", [_GROWS, f"{_OURS}/ai-sdk.gateway.test.ts::an answer streams into the chat"]),
        Cell("yes", [_RELOAD]),
        Cell("yes", [_CUT, _OFFLINE]),
        Cell("yes, live", [_MIRROR]),
        Cell("yes", [_STOP, f"{_OURS}/ai-sdk.gateway.test.ts::stopping the run says what became of it"]),
        Cell("yes", [_TOOL, f"{_OURS}/ai-sdk.gateway.test.ts::a tool of the page is run by one of two pages"]),
        Cell("yes", [_APPROVAL]),
    ),
    "TanStack AI, our `/tanstack`": (
        Cell("yes", [_GROWS, f"{_OURS}/tanstack.gateway.test.ts::an answer streams into the chat"]),
        Cell("yes", [_RELOAD]),
        Cell("yes", [_CUT, _OFFLINE]),
        Cell("yes, live", [_MIRROR]),
        Cell("yes", [_STOP]),
        Cell("yes", [_TOOL, f"{_OURS}/tanstack.gateway.test.ts::a tool of the page is run by one of two pages"]),
        Cell("yes", [_APPROVAL], "generic"),
    ),
    "AG-UI, our `/ag-ui`": (
        Cell("yes", [f"{_OURS}/ag-ui.gateway.test.ts::an answer is run"]),
        Cell("yes", [f"{_OURS}/ag-ui.gateway.test.ts::who connects has the session's messages and the run that goes"]),
        Cell("yes", [f"{_OURS}/gateway.test.ts::a gateway that is killed costs nothing"]),
        Cell("with its next run", [f"{_OURS}/ag-ui.gateway.test.ts::who connects has the session's messages"], "posts"),
        Cell("yes", [f"{_OURS}/ag-ui.gateway.test.ts::stopping says what became of it"]),
        Cell("yes", [f"{_OURS}/ag-ui.gateway.test.ts::a tool of the page is answered by a tool message"]),
        Cell("yes", [f"{_OURS}/ag-ui.gateway.test.ts::an approval is an interrupt, answered by resume"]),
    ),
    "React, our `/react`": (
        Cell("yes", [f"{_OURS}/react.gateway.test.ts::messages and the run that goes on are shown as they come"]),
        Cell("yes", ["browser/test_survival.py::test_a_reload_in_mid_answer_continues_it"]),
        Cell("yes", ["browser/test_survival.py::test_a_network_that_goes_and_comes_back_costs_nothing"]),
        Cell("yes, live", [f"{_OURS}/react.gateway.test.ts::what is sent is shown at once, and answers of another"]),
        Cell("yes", [f"{_OURS}/react.gateway.test.ts::messages and the run that goes on are shown as they come"]),
        Cell("yes", [f"{_OURS}/life.gateway.test.ts::: a tool of the page is claimed, run and answered"]),
        Cell("yes", [f"{_OURS}/react.gateway.test.ts::what is asked is answered by a component, once"]),
    ),
}

# Of the table of the agents' side, which is docs/guides/frameworks.md's own, the rows that stand here too.
AGENTS: Final = {
    "streams": "text as it comes, completed at the end",
    "cancel": "cancel, the text kept",
    "steer": "steer",
    "approval": "approvals, questions",
    "takeover": "goes on where a dead process was",
}
