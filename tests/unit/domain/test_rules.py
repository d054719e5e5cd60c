"""What rules apply to: paths, conditions, terms and what may be remembered; and that what is unclear is not allowed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.catalog import Agent, Policy, Rule, Tool
from orchestrator.domain.paths import path_arguments
from orchestrator.domain.policy import Call, Verdict, explain, judge
from orchestrator.domain.records import ApprovalTerms

CODER = Agent("coder", "CODER", "", "", tools=("*",), write_globs=("*",))
LEADS = ApprovalTerms(["lead"], quorum=2)
UNJUDGED = {"n": 2**64}  # a number that no condition looks at


def verdict(
    *rules: Rule, side_effect: str = "NON_IDEMPOTENT", terms: dict[str, ApprovalTerms] | None = None, **said: Any
) -> Verdict:
    policy = Policy("p", "d", rules, terms=terms or {})
    tool = Tool("do_it", "", "{}", "sd", side_effect)
    return judge(policy, Call("do_it", said, CODER, tool, json.dumps(said), {"team": "red"}))


DENY, ASK, ALLOW = (Rule(effect.lower(), effect) for effect in ("DENY", "ASK", "ALLOW"))


def rule(effect: str, **fields: Any) -> Rule:
    return Rule(effect.lower(), effect, **fields)


@pytest.mark.parametrize(
    ("rules", "said", "effect"),
    [
        # paths: a DENY or ASK is about calls that name one of them
        ([rule("DENY", paths=("infra/**",))], {"path": "infra/a/b.tf"}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"path": "docs/a.md"}, "ASK"),
        ([rule("DENY", paths=("infra/**",))], {"path": "./infra//a.tf"}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"path": "infra/"}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"edits": [{"path": "docs/a"}, {"path": "infra/b"}]}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"moves": {"deep": [{"sourcePath": "infra/b"}]}}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"files": {"infra/a": "its content"}}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"file_names": ["x", "infra/a"]}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"text": "infra/a"}, "ASK"),
        ([rule("DENY", paths=("infra/**",))], {}, "ASK"),
        # … and about those that may lead anywhere
        ([rule("DENY", paths=("infra/**",))], {"path": "docs/../infra/a"}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"path": "/srv/infra/a"}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"path": "~/a"}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"path": "a\\\\b"}, "DENY"),
        ([rule("DENY", paths=("infra/**",))], {"path": "."}, "ASK"),
        # an ALLOW only about those that name no other
        ([rule("ALLOW", paths=("docs/**",))], {"path": "docs/a.md"}, "ALLOW"),
        ([rule("ALLOW", paths=("docs/**",))], {"path": "docs/a.md", "destination": "/etc/passwd"}, "ASK"),
        ([rule("ALLOW", paths=("docs/**",))], {"paths": ["docs/a.md", "src/b"]}, "ASK"),
        ([rule("ALLOW", paths=("docs/**",))], {"path": "docs/../a"}, "ASK"),
        ([rule("ALLOW", paths=("docs/**",))], {"text": "docs/a"}, "ASK"),
        # conditions
        ([rule("DENY", condition='arguments.command.contains("deploy")')], {"command": "make deploy"}, "DENY"),
        ([rule("DENY", condition='arguments.command.contains("deploy")')], {"command": "make test"}, "ASK"),
        ([rule("ALLOW", condition="arguments.amount < 100")], {"amount": 99.5}, "ALLOW"),
        ([rule("ALLOW", condition="arguments.amount < 100")], {"amount": 100}, "ASK"),
        ([rule("ALLOW", condition='session.team == "red" && agent == "coder"')], {}, "ALLOW"),
        ([rule("ALLOW", condition='tool == "do_it" && side_effect == "READ_ONLY"')], {}, "ASK"),
        # one that cannot be evaluated takes the safe side
        ([rule("DENY", condition='arguments.command.contains("x")')], {}, "DENY"),
        ([rule("DENY", condition='arguments.command.contains("x")')], {"command": ["x"]}, "DENY"),
        ([rule("DENY", condition="arguments.n < 5")], UNJUDGED, "DENY"),
        ([rule("ASK", condition="arguments.n < 5"), ALLOW], UNJUDGED, "ASK"),
        ([rule("ALLOW", condition="arguments.n > 5")], UNJUDGED, "ASK"),
        ([rule("ALLOW", condition="arguments.n != 5")], {}, "ASK"),
        ([rule("ALLOW", condition="arguments.l.all(x, x in arguments.l)")], {"l": list(range(20_000))}, "ASK"),
        ([rule("DENY", condition="this is none")], {}, "DENY"),
        ([rule("ALLOW", condition="this is none")], {}, "ASK"),
        # everything a rule names must fit
        ([rule("DENY", paths=("infra/**",), condition="arguments.force")], {"path": "infra/a", "force": False}, "ASK"),
        ([rule("DENY", paths=("infra/**",), condition="arguments.force")], {"path": "infra/a", "force": True}, "DENY"),
        # deny beats ask beats allow
        ([ALLOW, ASK, rule("DENY", paths=("a",))], {"path": "a"}, "DENY"),
        ([ALLOW, rule("ASK", paths=("a",)), rule("DENY", paths=("b",))], {"path": "a"}, "ASK"),
        ([ALLOW, rule("ASK", paths=("a",)), rule("DENY", paths=("b",))], {"path": "c"}, "ALLOW"),
    ],
)
def test_rules_decide_by_all_they_name(rules: list[Rule], said: dict[str, Any], effect: str) -> None:
    assert verdict(*rules, **said).effect == effect


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ({"files": {"a": "x", "b/": {"text": "y"}}, "file": {"path": "c", "text": "z"}}, ["a", "b", "c"]),
        ({"path": "a", "content": "b", "PATH": "c"}, ["a", "c"]),
        ({"filePath": "a", "file_path": "b", "filename": "c", "fileName": "d", "file_name": "e"}, [*"abcde"]),
        ({"source": "a", "destination": "b", "cwd": "c", "workingDirectory": "d", "outDir": "e"}, [*"abcde"]),
        ({"files": [{"path": "a", "text": "x"}, "b"], "directories": ["c/"]}, ["a", "b", "c"]),
        ({"profile": "a", "pathology": "b", "xpath_like": "c", "from": "d"}, []),
        ({"path": 5, "paths": [None, True]}, []),
    ],
)
def test_paths_are_found_by_the_last_word_of_their_names(arguments: dict[str, Any], paths: list[str]) -> None:
    assert sorted(path_arguments(arguments)) == paths


def test_the_first_of_several_that_apply_decides() -> None:
    assert verdict(Rule("one", "ASK", ("other",)), Rule("two", "ASK"), Rule("three", "ASK")).rule == "two"


def test_terms_are_the_rules_or_the_policys_for_calls() -> None:
    for_calls = {"TOOL_CALL": LEADS, "PLAN": ApprovalTerms(["owner"])}
    assert verdict(Rule("mine", "ASK", terms=ApprovalTerms(["me"])), terms=for_calls).terms.roles == ["me"]
    assert verdict(Rule("mine", "ASK"), terms=for_calls).terms == LEADS
    assert verdict(terms=for_calls).terms == LEADS
    assert verdict().terms == ApprovalTerms()


@pytest.mark.parametrize(
    ("remember", "side_effect", "quorum", "offered"),
    [
        (None, "READ_ONLY", 1, True),
        (None, "IDEMPOTENT", 1, True),
        (None, "NON_IDEMPOTENT", 1, False),
        (None, "IDEMPOTENT", 2, False),
        (True, "NON_IDEMPOTENT", 1, True),
        (True, "NON_IDEMPOTENT", 2, True),
        (False, "READ_ONLY", 1, False),
    ],
)
def test_remembering_is_offered_for_what_may_run_twice_or_as_the_rule_says(
    remember: bool | None, side_effect: str, quorum: int, offered: bool
) -> None:
    ask = Rule("ask", "ASK", remember=remember, terms=ApprovalTerms(quorum=quorum))
    assert verdict(ask, side_effect=side_effect).may_remember == offered


def test_every_rule_that_is_looked_at_is_explained_up_to_the_one_that_decides() -> None:
    rules = (
        Rule("others", "ALLOW", ("other_*",)),
        Rule("infra", "DENY", paths=("infra/**",)),
        Rule("reads", "DENY", side_effects=("READ_ONLY",)),
        Rule("big", "ASK", condition="arguments.amount > 10"),
        Rule("any", "ASK"),
        Rule("never-seen", "ASK"),
    )
    tool = Tool("do_it", "", "{}", "sd", "IDEMPOTENT")
    looks = list(explain(Policy("p", "d", rules), Call("do_it", {"path": "src/a"}, CODER, tool)))
    assert [(look.rule, look.applies) for look in looks] == [
        ("agent", False),
        ("infra", False),
        ("reads", False),
        ("big", True),
    ]
    assert looks[1].reason == "'src/a': none of its paths"
    assert looks[2].reason == "it is about READ_ONLY tools, and do_it is IDEMPOTENT"
    assert looks[3].reason == "its condition cannot be evaluated: there is no 'amount'; so it applies, to be safe"
    assert [look.verdict is None for look in looks] == [True, True, True, False]


_ARGUMENTS = st.dictionaries(
    st.sampled_from(["path", "n", "x", "files"]),
    st.one_of(
        st.text("ab/.~\\é", max_size=9),
        st.integers(),
        st.lists(st.sampled_from(["a", "infra/b", "../c", "/d"]), max_size=3),
    ),
    max_size=3,
)
_RULES = st.builds(
    Rule,
    st.just("r"),
    st.sampled_from(["DENY", "ASK", "ALLOW"]),
    paths=st.sampled_from([(), ("infra/**",), ("*",)]),
    condition=st.sampled_from(["", "arguments.n > 5", "has(arguments.x)", "no condition at all", "arguments.n"]),
)


@given(st.lists(_RULES, max_size=4), _RULES, _ARGUMENTS)
def test_a_rule_more_that_denies_or_asks_never_allows_more(rules: list[Rule], more: Rule, said: dict[str, Any]) -> None:
    weight = {"DENY": 0, "ASK": 1, "ALLOW": 2}
    before, after = verdict(*rules, **said).effect, verdict(*rules, more, **said).effect
    if more.effect == "ALLOW":
        assert weight[after] >= weight[before]
    else:
        assert weight[after] <= weight[before]


@given(st.permutations(range(4)), st.lists(_RULES, min_size=4, max_size=4), _ARGUMENTS)
def test_the_order_of_rules_changes_no_effect(order: list[int], rules: list[Rule], said: dict[str, Any]) -> None:
    assert verdict(*rules, **said).effect == verdict(*(rules[n] for n in order), **said).effect
