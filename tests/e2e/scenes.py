"""Sessions brought to the moment a test is about, with the words of script.yaml, and what is seen in them after it."""

from pathlib import Path

import grpc

from gen.assent.v1.approval_pb2 import Approval
from gen.assent.v1.plan_pb2 import SubtaskDraft
from gen.assent.v1.step_pb2 import Step
from rpc.problem import Problem
from tests.e2e.services import LIMIT_SECONDS, Services, answered, until
from tests.integration.orchestrator.client import Client, Log


def a_subtask(key: str, instructions: str, *depends_on: str) -> SubtaskDraft:
    return SubtaskDraft(key=key, title=f"The {key}", instructions=instructions, agent="coder", depends_on=depends_on)


async def thinking(client: Client, text: str = "Think.") -> tuple[str, str]:
    """A session whose model is in the middle of a reply, and its run."""
    session = await client.new_session()
    run = (await client.send(session.id, text)).run
    async with client.watch(session.id, include_deltas=True) as watch:
        await watch.until("message_delta")
    return session.id, run.id


async def running(services: Services, client: Client) -> tuple[str, str, Path]:
    """A session with a plan whose one subtask is in the middle of a command, its run, and its workspace."""
    session = await client.new_session()
    plan = await client.new_plan(session.id, [a_subtask("command", "Run.")])
    await client.decide(await client.asked(session.id), "APPROVE")
    await client.decide(await client.asked(session.id), "APPROVE")
    workspace = services.workspace(session.id)
    await until(lambda: journal(workspace) == ["begun"])
    return session.id, plan.run_id, workspace


def journal(workspace: Path) -> list[str]:
    """What the command says it has done."""
    file = workspace / "journal"
    return file.read_text().split() if file.exists() else []


def open_gate(workspace: Path) -> None:
    """Let the command end."""
    (workspace / "gate").touch()


async def tool_step(client: Client, run_id: str) -> Step:
    """The one call of a tool in the run."""
    (step,) = [step for step in await client.steps(run_id) if step.tool]
    return step


async def settled(client: Client, session_id: str, after: int = 0, limit: float = LIMIT_SECONDS) -> Log:
    """The session's log after the sequence once nothing moves in it, over any number of restarts."""

    async def followed() -> Log:
        try:
            return await client.settled(session_id, after, limit)
        except grpc.aio.AioRpcError as error:
            raise Problem.from_rpc_error(error) from None

    return await answered(followed, limit)


async def question(client: Client, session_id: str) -> Approval:
    """What the session waits for, also when the orchestrator has just come back."""
    await settled(client, session_id)
    (approval,) = await client.pending(session_id)
    return approval
