"""`python -m bench.rules`: what the rules alone cost: pure Python, without a database, an executor or a wire.

Prints one JSON line for each kind of work: microseconds of CPU each, the median of some rounds, the least and the most.
"""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import count

from bench.services import CATALOG
from orchestrator.catalog import load_catalog
from orchestrator.domain import conditions
from orchestrator.domain.catalog import Catalog, Policy, Rule, Tool
from orchestrator.domain.change import Change
from orchestrator.domain.commands import create_session, receive_message
from orchestrator.domain.deciding import decide
from orchestrator.domain.frozen import replace
from orchestrator.domain.outcomes import Outcome, fold
from orchestrator.domain.policy import ANY_AGENT, Call, judge
from orchestrator.domain.reconcile import reconcile
from orchestrator.domain.records import Approval, Decision, ModelReply, Session, Step, ToolCall, ToolResult
from orchestrator.domain.starting import Place, World
from orchestrator.domain.states import ApprovalState
from orchestrator.domain.transcript import model_call
from orchestrator.store.batch import prepare
from orchestrator.store.log import seal

ROUNDS = 15
PER_SESSION = 10
NOOPS = {"noop": "READ_ONLY", "noop_ask": "NON_IDEMPOTENT"}
SCHEMA = '{"type": "object"}'
COMMAND = '{"command": "make deploy live", "cwd": "services/gateway", "environment": {"LANG": "C"}}'
CONDITION = 'arguments.command.contains("deploy") && !arguments.command.startsWith("echo") && tool != "noop"'


class Conversation:
    """A session in memory that does workflows as an orchestrator does; what it would write is encoded, and dropped."""

    def __init__(self, catalog: Catalog, encodes: bool) -> None:
        self._catalog = catalog
        self._encodes = encodes
        self._numbers = count()
        self._world = World(catalog, lambda step, workspace: Place("executor", "127.0.0.1:1"))
        self._snapshot = create_session(Session("bench", "session", agent="bench"), 1_000_000, self._new_id).snapshot

    def workflow(self, text: str) -> None:
        starts = self._write(lambda change: receive_message(change, text, "bench", "bench", self._catalog))
        while starts:
            [step_id] = starts
            outcome = self._outcome(self._snapshot.steps[step_id])
            starts = self._write(partial(fold, outcome=outcome))
            for approval in [a for a in self._snapshot.approvals.values() if a.state == ApprovalState.PENDING]:
                starts = self._write(partial(self._approve, approval=approval))
        for rows in (self._snapshot.runs, self._snapshot.attempts, self._snapshot.steps, self._snapshot.approvals):
            rows.clear()  # as it is kept once it has come to rest

    def _new_id(self) -> str:
        return f"{next(self._numbers):032}"

    def _outcome(self, step: Step) -> Outcome:
        if step.kind == "TOOL":
            return Outcome(step.id, step.dispatch_number, "SUCCEEDED", result=ToolResult("done"))
        turn = model_call(self._snapshot, step, self._catalog).turn
        asks = turn == 1 and "approval" in self._snapshot.runs[step.run_id].goal
        call = ToolCall("call", "noop_ask" if asks else "noop", '{"step": 1}')
        reply = ModelReply("done") if turn == 2 else ModelReply(tool_calls=[call])
        return Outcome(step.id, step.dispatch_number, "SUCCEEDED", reply=reply)

    def _approve(self, change: Change, approval: Approval) -> None:
        decide(change, approval, Decision("APPROVE", "bench", change.now, approval.digest), self._catalog)

    def _write(self, do: Callable[[Change], object]) -> list[str]:
        """The steps to start after it."""
        now = 1_000_000 + next(self._numbers)
        session = self._snapshot.session
        change = Change(self._snapshot, now, self._new_id, policy=self._catalog.policy_of(session))
        do(change)
        reconcile(change, self._world)
        written = change.as_change_set()
        if self._encodes:
            prepare(written, seal(session, written.events, now=now), "")
        last = session.last_sequence + len(written.events)
        self._snapshot.session = replace(self._snapshot.session, last_sequence=last, last_event_time=now)
        return change.starts


def _workflows(catalog: Catalog, text: str, *, encodes: bool) -> Callable[[int], None]:
    def do(times: int) -> None:
        for _ in range(times // PER_SESSION):
            conversation = Conversation(catalog, encodes)
            for _ in range(PER_SESSION):
                conversation.workflow(text)

    return do


def _judge(*rules: Rule) -> Callable[[int], None]:
    policy = Policy(rules=rules)
    tool = Tool("run_command", "", SCHEMA, "", "NON_IDEMPOTENT")

    def do(times: int) -> None:
        call = Call("run_command", json.loads(COMMAND), ANY_AGENT, tool, COMMAND)
        for _ in range(times):
            judge(policy, call)

    return do


def _compile(times: int) -> None:
    for number in range(times):
        conditions.compile.__wrapped__(f"{CONDITION} && size(arguments) > {number}")


def _works() -> dict[str, tuple[int, Callable[[int], None]]]:
    """Each kind of work, and how often it is done in a round."""
    catalog = load_catalog(CATALOG)
    catalog.tools = {name: Tool(name, "does nothing", SCHEMA, "digest", effect) for name, effect in NOOPS.items()}
    few = (Rule("asks", "ASK", ("run_*",)), Rule("reads", "ALLOW", side_effects=("READ_ONLY",)))
    others = [Rule(f"other-{number}", "DENY", (f"other_{number}_*",)) for number in range(50)]
    return {
        "a workflow": (200, _workflows(catalog, "go", encodes=False)),
        "… and its encoding": (200, _workflows(catalog, "go", encodes=True)),
        "a workflow with an approval": (200, _workflows(catalog, "with approval", encodes=False)),
        "… and its encoding, too": (200, _workflows(catalog, "with approval", encodes=True)),
        "judging a call by 2 rules": (2_000, _judge(*few)),
        "… by 52": (500, _judge(*others, *few)),
        "… by a condition": (2_000, _judge(Rule("deploys", "ASK", ("run_*",), condition=CONDITION), *few)),
        "compiling a condition": (50, _compile),
    }


def main() -> None:
    for name, (times, do) in _works().items():
        do(times)  # until everything is warm
        rounds = []
        for _ in range(ROUNDS):
            began = time.process_time()
            do(times)
            rounds.append((time.process_time() - began) * 1e6 / times)
        spread = {"median": statistics.median(rounds), "min": min(rounds), "max": max(rounds)}
        print(json.dumps({"work": name, "micros": {key: round(value, 1) for key, value in spread.items()}}))


if __name__ == "__main__":
    main()
