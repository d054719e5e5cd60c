"""Whatever people want of one question at once, at whichever replica: exactly one gets it, and all learn who."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from gen.assent.v1 import approval_pb2, plan_pb2
from orchestrator.domain.catalog import SECOND
from orchestrator.domain.records import ApprovalTerms
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, subtask, words
from tests.integration.orchestrator.plays import answers
from tests.integration.orchestrator.replica import Replicas
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

RACES, PARTS, AT_ONCE = 1_000, 5, 10
GIVEN, EDITED = '{"n": 1}', '{"n": 2}'

Wish = Callable[[Client, approval_pb2.Approval, str], Awaitable[Any]]
"""What somebody asks for, under a request id."""


def decides(action: str, **more: Any) -> Wish:
    return lambda client, approval, request_id: client.decide(approval, action, request_id=request_id, **more)


async def cancels(client: Client, approval: approval_pb2.Approval, request_id: str) -> None:
    await client.cancel(approval.run_id, request_id=request_id)


async def revises(client: Client, approval: approval_pb2.Approval, request_id: str) -> None:
    plan = plan_pb2.Plan(id=approval.plan_id, title="Otherwise")
    await client.revise(plan, [subtask("other")], request_id=request_id)


WISHES: dict[str, dict[str, Wish]] = {
    "PLAN": {
        **{name: decides(name) for name in ("APPROVE", "REJECT", "ABORT")},
        "REQUEST_CHANGES": decides("REQUEST_CHANGES", feedback="Otherwise, please."),
        "cancel": cancels,
        "revise": revises,
    },
    "TOOL_CALL": {
        **{name: decides(name) for name in ("APPROVE", "REJECT", "ABORT")},
        "EDIT": decides("EDIT", edited_arguments_json=EDITED),
        "RESPOND": decides("RESPOND", response_json='"done already"'),
        "cancel": cancels,
    },
}
SETTLES = {"cancel": "CANCELLED", "revise": "SUPERSEDED"}
"""What settles a question without being an answer to it, and as what."""
TOO_LATE = {"state": "EXPIRED", "action": "", "decider": "engine"}
RUNS = {"APPROVE": GIVEN, "EDIT": EDITED}
"""After which answers the call is made, and with which arguments."""


@dataclass
class Race:
    """What became of one: who wanted what, and what they were told (a Problem, or anything else)."""

    approval: approval_pb2.Approval
    wanted: dict[str, str]
    told: dict[str, object]

    @property
    def accepted(self) -> list[tuple[str, str]]:
        """Who was told that their decision counts."""
        said_yes = [who for who, answer in self.told.items() if not isinstance(answer, Problem)]
        return [(who, self.wanted[who]) for who in said_yes if self.wanted[who].isupper()]


def mails(act: Act) -> None:
    """Every message makes the agent call a tool that asks; whatever is started is done at once."""
    if act.purpose == "ANSWER" and act.start.model.turn == 0:
        act.says("Calling.", ("send_mail", GIVEN))
    else:
        answers(act)


async def question(client: Client, kind: str) -> approval_pb2.Approval:
    session = await client.new_session()
    if kind == "PLAN":
        await client.new_plan(session.id)
    else:
        await client.send(session.id)
    return await client.first_asked(session.id)


async def run(kind: str, clients: list[Client], random: Random) -> Race:
    approval = await question(random.choice(clients), kind)
    expires, early = approval.expire_time.ToMicroseconds() / 1e6, random.choice([0.06, 0.06, 0.0])
    names = [random.choice(list(WISHES[kind])) for _ in range(random.randint(2, 5))]
    wanted = {f"{name.lower()} {n}": name for n, name in enumerate(names)}

    async def wish(who: str) -> object:
        if expires:  # about when its time is over: before, after, and in the moment
            await asyncio.sleep(max(0.0, expires + random.uniform(-early, 0.02) - time.time()))
        client, request_id = random.choice(clients).acting_as(who), str(uuid4())
        while True:
            try:
                return await WISHES[kind][wanted[who]](client, approval, request_id)
            except Problem as problem:
                if problem.reason != "STORAGE_UNAVAILABLE":  # which a busy machine may be: the same is asked again
                    return problem

    told = await asyncio.gather(*map(wish, wanted))
    return Race(approval, wanted, dict(zip(wanted, told, strict=True)))


async def judge(race: Race, client: Client, executor: ScriptedExecutor) -> str:
    """Who won: an action, or what settled the question without one."""
    async with client.watch(race.approval.session_id) as watch:
        await watch.until("approval_resolved", approval_id=race.approval.id)
    log = await client.settled(race.approval.session_id)
    (settled,) = log.of("approval_resolved", approval_id=race.approval.id)
    decider, action = settled.get("decider", ""), settled.get("action", "")
    assert race.accepted == ([(decider, action)] if action else []), race
    for who, problem in race.told.items():
        if isinstance(problem, Problem) and race.wanted[who].isupper():
            assert problem.reason == "APPROVAL_ALREADY_RESOLVED", race
            learned = {key: problem.metadata[key] for key in ("state", "action", "decider")}
            if race.approval.HasField("expire_time") and learned == TOO_LATE:
                continue  # so it was, whatever was made of the question after its time
            winner = decider or _who_settled(race, settled["state"], learned["decider"])
            assert learned == {"state": settled["state"], "action": action, "decider": winner}, race
    if words(race.approval)["kind"] == "PLAN":
        begun = {subtask_id for e in log.of("step_started") if (subtask_id := e.get("subtask_id"))}
        assert action == "APPROVE" or not begun, race
    else:
        calls = {step.id for step in await client.steps(race.approval.run_id) if step.tool}
        ran = [act.start.tool.arguments_json for act in executor.acts if act.step_id in calls]
        is_stopped = not ran and "cancel" in race.wanted.values()
        assert is_stopped or ran == ([RUNS[action]] if action in RUNS else []), race
    return action or str(settled["state"])


def _who_settled(race: Race, state: str, named: str) -> str:
    """Who is named, if they may be: they wanted what makes it so, and were told that it is done."""
    assert SETTLES.get(race.wanted[named]) == state, race
    assert not isinstance(race.told[named], Problem), race
    return named


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", WISHES)
async def test_of_all_that_is_wanted_at_once_one_thing_happens_and_everybody_learns_which(
    kind: str, part: int, on_terms: Callable[..., None], replicas: Replicas, executor: ScriptedExecutor
) -> None:
    """In every other part time is one of the competitors: what nobody answers in it is refused."""
    if expires := part % 2 == 1:
        on_terms(**{kind: ApprovalTerms(wait=SECOND, on_expiry="DENY")})
    executor.play = mails
    clients = [(await replicas.start()).client, (await replicas.start()).client]
    await executor.joined(2)
    random = Random(f"{kind} {part}")
    races = RACES // len(WISHES) // PARTS
    won: dict[str, int] = {}
    for _ in range(races // AT_ONCE):
        for race in await asyncio.gather(*(run(kind, clients, random) for _ in range(AT_ONCE))):
            winner = await judge(race, clients[0], executor)
            won[winner] = won.get(winner, 0) + 1
    if expires:
        assert won["EXPIRED"], won
    else:
        assert set(won) == {SETTLES.get(name, name) for name in WISHES[kind]}, won
    assert sum(won.values()) == races
