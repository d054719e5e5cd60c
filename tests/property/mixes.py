"""Replies of several calls, each of which ends in a way of its own: one by one, in whatever order."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.domain.catalog import Catalog, Policy, Rule, Tool
from orchestrator.domain.client_tools import record_result
from orchestrator.domain.events import ToolCallReady
from orchestrator.domain.records import (
    Approval,
    ApprovalTerms,
    ClientTool,
    Remember,
    Step,
    ToolCall,
    ToolResult,
    is_done,
)
from tests.unit.domain.build import AGENTS, SECOND, Play, call

HOUR = 3600 * SECOND
MONTH = 720 * HOUR
PATH = '{"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}'
TOOLS = {"look": "READ_ONLY", "write": "IDEMPOTENT", "mail": "NON_IDEMPOTENT"}
TOOLS |= dict.fromkeys(("slow", "slower", "halting", "known", "never"), "IDEMPOTENT")
CLIENT_TOOLS = [
    ClientTool("tab", time_limit=MONTH),
    ClientTool("tab_asked", time_limit=MONTH),
    ClientTool("tab_silent", time_limit=90 * SECOND),
    ClientTool("tab_doubt", time_limit=90 * SECOND, on_timeout="ASK"),
    ClientTool("tab_halt", time_limit=90 * SECOND, on_timeout="HALT"),
]
POLICY = Policy(
    "mixed",
    "policy-digest",
    (
        Rule("never", "DENY", ("never",), reason="too dangerous"),
        Rule("soon", "ASK", ("slow",), terms=ApprovalTerms(wait=HOUR, on_expiry="DENY")),
        Rule("others", "ASK", ("slower",), terms=ApprovalTerms(wait=HOUR, on_expiry="ESCALATE")),
        Rule("held", "ASK", ("halting",), terms=ApprovalTerms(wait=HOUR, on_expiry="HALT")),
        Rule("known", "ASK", ("known",), remember=True),
        Rule("changes", "ASK", ("write", "tab_asked")),
        Rule("trusted", "ALLOW", ("mail", "tab", "tab_silent", "tab_doubt", "tab_halt")),
    ),
)

Act = Callable[["Mix", Step], None]


@dataclass(frozen=True)
class Way:
    """How a call ends: what is done with it in each state it comes to, and what the model reads in the end."""

    tool: str
    reads: str
    acts: tuple[tuple[str, Act], ...] = ()
    is_error: bool = False
    arguments: str = '{"path": "a.txt"}'

    def act(self, state: str) -> Act:
        return dict(self.acts)[state]


class Mix:
    """One reply with one call for each way that is named."""

    def __init__(self, *ways: str) -> None:
        tools = {name: Tool(name, f"does {name}", PATH, f"schema of {name}", effect) for name, effect in TOOLS.items()}
        book = Catalog({agent.name: replace(agent, tools=("*",)) for agent in AGENTS}, POLICY, tools=tools)
        self.ways = [WAYS[way] for way in ways]
        self.play = Play(book, client_tools=CLIENT_TOOLS)
        self.play.say(agent="coder")
        if "granted" in ways:
            self._grant()
        self.before = self.models
        self.play.reply("Several at once.", *(_call(way, f"c{n}") for n, way in enumerate(self.ways)))

    def _grant(self) -> None:
        self.play.reply("", call("known", "earlier", path="a.txt"))
        self.play.decide("APPROVE", remember=Remember("", MONTH), grant_id="the grant")
        self.play.result("done earlier")

    @property
    def models(self) -> int:
        return sum(1 for step in self.play.steps if step.kind == "MODEL")

    @property
    def went_on(self) -> int:
        """How many model calls there were since the reply."""
        return self.models - self.before

    def step(self, number: int) -> Step:
        """The call as it stands: one that a person edited is another step."""
        steps = [s for s in self.play.calls if s.call_id == f"c{number}" and s.state != "EDITED"]
        assert len(steps) == 1
        return steps[0]

    @property
    def open(self) -> list[int]:
        return [n for n in range(len(self.ways)) if not is_done(self.step(n))]

    def act(self, number: int) -> None:
        """The next thing that happens to the call; a run that was halted is resumed first."""
        if self.play.run.pause is not None:
            self.play.resume()
        step = self.step(number)
        if not is_done(step):
            self.ways[number].act(step.state)(self, step)

    def asked(self, step: Step) -> Approval:
        [approval] = [a for a in self.play.pending if a.step_id == step.id]
        return approval


def _call(way: Way, call_id: str) -> ToolCall:
    return ToolCall(call_id, way.tool, way.arguments)


def _returns(mix: Mix, step: Step) -> None:
    mix.play.result(f"done {step.call_id}", step)


def _fails(mix: Mix, step: Step) -> None:
    mix.play.fail(step=step)


def _is_lost(mix: Mix, step: Step) -> None:
    mix.play.outcome("LOST", step)


def _answers(mix: Mix, step: Step) -> None:
    mix.play.do(lambda c: record_result(c, step, "", "anna", ToolResult(f"done {step.call_id}")))


def _is_silent(mix: Mix, step: Step) -> None:
    mix.play.wait(max(0, step.deadline_time - mix.play.now))


def _is_silent_once(mix: Mix, step: Step) -> None:
    """Halts the run the first time; once that was resumed, a client answers."""
    handed_over = sum(1 for e in mix.play.events if isinstance(e, ToolCallReady) and e.step_id == step.id)
    (_is_silent if handed_over == 1 else _answers)(mix, step)


def _expires(mix: Mix, step: Step) -> None:
    mix.play.wait(max(0, mix.asked(step).expire_time - mix.play.now))


def _expires_once(mix: Mix, step: Step) -> None:
    """The first question; the one that takes its place is answered."""
    if mix.asked(step).earlier_approval_id:
        mix.play.decide("APPROVE", mix.asked(step))
    else:
        _expires(mix, step)


def _decided(action: str, said: str = "") -> Act:
    def decide(mix: Mix, step: Step) -> None:
        words = said.replace("{id}", step.call_id)
        part = {"RESPOND": "response_json", "EDIT": "edited_arguments_json"}.get(action)
        given: dict[str, Any] = {part: words} if part else {"feedback": words}
        mix.play.decide(action, mix.asked(step), **given)

    return decide


_ASKED, _RUNS, _READY = "AWAITING_APPROVAL", ("DISPATCHED", _returns), ("READY", _answers)
_APPROVED = (_ASKED, _decided("APPROVE"))
WAYS = {
    "auto": Way("look", "done {id}", (_RUNS,)),
    "auto, fails": Way("look", "The call failed", (("DISPATCHED", _fails),), True),
    "denied": Way("never", "too dangerous", (), True),
    "unknown": Way("nothing", "there is no tool", (), True),
    "unfit": Way("write", "is not of type 'string'", (), True, '{"path": 1}'),
    "approved": Way("write", "done {id}", (_APPROVED, _RUNS)),
    "approved, fails": Way("write", "The call failed", (_APPROVED, ("DISPATCHED", _fails)), True),
    "edited": Way("write", "done {id}", ((_ASKED, _decided("EDIT", '{"path": "{id}.txt"}')), _RUNS)),
    "rejected": Way("write", "not {id}", ((_ASKED, _decided("REJECT", "not {id}")),), True),
    "responded": Way("write", "instead of {id}", ((_ASKED, _decided("RESPOND", '"instead of {id}"')),)),
    "granted": Way("known", "done {id}", (_RUNS,)),
    "expired": Way("slow", "Nobody answered in time", ((_ASKED, _expires),), True),
    "escalated": Way("slower", "done {id}", ((_ASKED, _expires_once), _RUNS)),
    "halted": Way("halting", "done {id}", ((_ASKED, _expires_once), _RUNS)),
    "client": Way("tab", "done {id}", (_READY,)),
    "client, approved": Way("tab_asked", "done {id}", (_APPROVED, _READY)),
    "client, edited": Way("tab_asked", "done {id}", ((_ASKED, _decided("EDIT", '{"path": "{id}"}')), _READY)),
    "client, silent": Way("tab_silent", "No client answered", (("READY", _is_silent),), True),
    "client, in doubt": Way(
        "tab_doubt", "it did {id}", (("READY", _is_silent), ("IN_DOUBT", _decided("RESPOND", '"it did {id}"')))
    ),
    "client, halts": Way("tab_halt", "done {id}", (("READY", _is_silent_once),)),
    "question": Way(
        "ask_user", "answer {id}", ((_ASKED, _decided("RESPOND", '"answer {id}"')),), False, '{"question": "Well?"}'
    ),
    "bad question": Way("ask_user", "'question' is a required property", (), True, "{}"),
    "in doubt, given up": Way(
        "mail", "over {id}", (("DISPATCHED", _is_lost), ("IN_DOUBT", _decided("REJECT", "over {id}"))), True
    ),
}
