"""Sessions in which a question of each kind waits, on terms of the test's choice. It checks nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.domain.catalog import Policy, Rule
from orchestrator.domain.records import ApprovalTerms, Budget
from tests.unit.domain.build import POLICY, SECOND, Play, call, catalog, draft, task

KINDS = ("PLAN", "TOOL_CALL", "QUESTION", "IN_DOUBT", "BUDGET", "FAILURE")
HOUR = 3600 * SECOND


def policy(terms: ApprovalTerms, *kinds: str) -> Policy:
    """The tests' policy, with these terms for these kinds of questions."""
    return replace(POLICY, terms=dict.fromkeys(kinds, terms))


def rule_with(terms: ApprovalTerms | None, **kinds: ApprovalTerms) -> Policy:
    """A policy whose rule for changes has these terms, and which has others for kinds."""
    rules = (Rule("changes", "ASK", ("write_*", "run_*"), terms=terms), Rule("trusted", "ALLOW", ("send_mail",)))
    return Policy("default", "policy-digest", rules, terms=kinds)


def _plan(play: Play) -> None:
    play.submit(draft(task("a")))


def _call(play: Play) -> None:
    play.say(agent="coder")
    play.reply("", call("write_file", path="a"))


def _question(play: Play) -> None:
    play.say(agent="coder")
    play.reply("", call("ask_user", question="Which one?"))


def _doubt(play: Play) -> None:
    play.say(agent="coder")
    play.reply("", call("send_mail"))
    play.outcome("LOST")


def _budget(play: Play) -> None:
    play.say(agent="coder")
    play.wait(HOUR)
    play.reply("", call("read_file"))


def _failure(play: Play) -> None:
    play.say(agent="coder")
    play.fail("FATAL")


_RAISE: dict[str, Callable[[Play], None]] = {
    "PLAN": _plan,
    "TOOL_CALL": _call,
    "QUESTION": _question,
    "IN_DOUBT": _doubt,
    "BUDGET": _budget,
    "FAILURE": _failure,
}


def asked(kind: str, terms: ApprovalTerms, **session: Any) -> Play:
    """Anna's run, in which one question of this kind waits on these terms. Questions about calls take them all."""
    kinds = ("TOOL_CALL", "IN_DOUBT") if kind == "IN_DOUBT" else (kind,)
    if kind == "BUDGET":
        session["budget"] = Budget(work_duration=HOUR)
    play = Play(catalog(policy=policy(terms, *kinds)), **session)
    _RAISE[kind](play)
    [approval] = play.pending
    assert approval.kind == kind
    return play
