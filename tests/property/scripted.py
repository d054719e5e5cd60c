"""What models, tools and executors may say in the property tests: Hypothesis strategies, good and bad replies alike."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from orchestrator.domain.drafts import PlanDraft
from orchestrator.domain.graph import SubtaskDraft
from orchestrator.domain.records import (
    ApprovalTerms,
    ExpectedArtifact,
    Failure,
    ModelReply,
    Remember,
    ToolCall,
    ToolResult,
    Usage,
)
from tests.unit.domain.build import SECOND, TOOLS, plan_answer, route_answer, task

GOOD_ARGUMENTS = ['{"path": "notes.md"}', '{"id": 1234567890123456789}', "{}", "", '{"question": "Well?"}']
BAD_ARGUMENTS = ['{"path": "../x"}', "{bad", '{"a":1,"a":2}', "[]", "1" * 5_000]
TEXTS = ["", "done", "{}", "```json\n{}\n```", "{bad", route_answer("atomic", "wizard")]

_NO_EXECUTORS = ["ask_ide", "open_tab", "tab_doubt", "tab_halt", "ask_user"]
_any_call = st.builds(
    ToolCall,
    st.sampled_from(["", "c1", "c1-3", "call-2"]),
    st.sampled_from(
        [
            *TOOLS,
            "write_file",
            "run_command",
            "no_such_tool",
            "ask_ide",
            "open_tab",
            "tab_doubt",
            "tab_halt",
            "ask_user",
        ]
    ),
    st.sampled_from(GOOD_ARGUMENTS * 4 + BAD_ARGUMENTS),
)
# One of them again and again, so that what is remembered of it is met.
calls = st.one_of(_any_call, _any_call, st.just(ToolCall("c1", "write_file", GOOD_ARGUMENTS[0])))


@st.composite
def tasks(draw: st.DrawFn) -> list[SubtaskDraft]:
    """A valid graph: each subtask depends on some of those before it."""
    keys = ["a", "b", "c", "d"][: draw(st.integers(1, 4))]
    nodes = [
        task(key, *sorted(draw(st.sets(st.sampled_from(keys[:i])))) if i else (), agent=draw(_doers))
        for i, key in enumerate(keys)
    ]
    return [replace(each, **draw(_leaving)) if each.agent == "coder" else each for each in nodes]


OUT, NOTES = ExpectedArtifact("out.json", schema_json='{"type": "object"}'), ExpectedArtifact("notes.md")
_leaving: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {},
        {"artifacts": (OUT,)},
        {"artifacts": (NOTES, OUT), "gates": ("review",)},
        {"artifacts": (OUT,), "gates": ("content", "release")},
    ]
)
# What is found in a workspace, if anything: does it, does something, does not.
found_files = st.sampled_from([b"{}", b"{}", b'{"n": 1}', b"[]", b"\xff", None])


_doers = st.sampled_from(["coder"] * 4 + ["ask"])
plans = st.builds(lambda nodes, limit: PlanDraft("T", "S", tuple(nodes), limit), tasks(), st.integers(1, 3))
_good = {
    "ROUTING": st.builds(route_answer, st.sampled_from(["atomic", "complex"]), _doers),
    "PLANNING": st.builds(lambda nodes, limit: plan_answer(*nodes, parallel_limit=limit), tasks(), st.integers(1, 3)),
    "SUBTASK": st.just("all done"),
    "ANSWER": st.just("the answer"),
}


def replies(purpose: str) -> st.SearchStrategy[ModelReply]:
    """Mostly what was asked for; sometimes nonsense, sometimes calls of tools."""
    final = st.builds(ModelReply, _good[purpose])
    nonsense = st.builds(ModelReply, st.sampled_from(TEXTS))
    acting = st.builds(lambda c: ModelReply("let me see", tool_calls=c), st.lists(calls, min_size=1, max_size=4))
    return st.one_of(final, acting, final, nonsense) if purpose in ("ROUTING", "PLANNING") else final | acting


results = st.builds(ToolResult, st.sampled_from(["ok", ""]), is_error=st.booleans())
failures = st.builds(
    Failure, st.just("FAULT"), st.just("it broke"), st.sampled_from(["RETRYABLE", "RETRYABLE", "FATAL"])
)
usages = st.builds(Usage, input_tokens=st.integers(0, 9), cost_usd_micros=st.integers(0, 9))

# What may be remembered of a call, and for how long; and what is true of none.
_lifetimes = st.sampled_from([SECOND // 2, 20 * SECOND, 1000 * SECOND])
true_wishes = st.none() | st.builds(Remember, st.sampled_from(["", 'arguments.path == "notes.md"']), _lifetimes)
wishes = true_wishes | st.just(Remember('arguments.path != "notes.md"'))

_some_terms = st.builds(
    ApprovalTerms,
    roles=st.sampled_from([[], ["lead"]]),
    quorum=st.sampled_from([0, 1, 1, 2, 3]),
    requester_excluded=st.booleans(),
    wait=st.sampled_from([0, SECOND // 2, 20 * SECOND]),
    on_expiry=st.sampled_from(["", "NEVER", "HALT", "DENY", "ESCALATE"]),
    escalation_roles=st.just(["director"]),
    remind_every=st.sampled_from([0, SECOND // 3, 7 * SECOND]),
)
# Mostly none, so that sessions get on.
_no_terms: dict[str, ApprovalTerms] = {}
terms = st.just(_no_terms) | st.dictionaries(
    st.sampled_from(["PLAN", "TOOL_CALL", "QUESTION", "ARTIFACT", "IN_DOUBT", "BUDGET", "FAILURE"]),
    _some_terms,
    max_size=5,
)
