"""`assent pause`, `resume`, `cancel`, `close`, `switch`: steering a run or a session without following it."""

from rich.console import Console

from cli.client import Client, new_request_id
from cli.screen import print_lines
from cli.story import Line
from cli.words import one_line, state_of
from gen.assent.v1.run_pb2 import Run
from gen.assent.v1.run_service_pb2 import CancelRunRequest, PauseRunRequest, ResumeRunRequest
from gen.assent.v1.session_service_pb2 import CloseSessionRequest, SwitchAgentRequest


async def pause_run(client: Client, run_id: str, reason: str, console: Console) -> None:
    """Nothing new starts in the run; what is in flight ends first."""
    request = PauseRunRequest(run_id=run_id, request_id=new_request_id(), reason=reason)
    run = (await client.call(client.runs.PauseRun, request)).run
    resume = Line(f"  let it go on with: assent resume {run.id}", "quiet")
    print_lines(console, [Line(f"run {run.id} {_PAUSING[state_of(run, 'state')]}", "notice"), resume])


_PAUSING = {
    "PAUSED": "is PAUSED",
    "RUNNING": "starts nothing more; it is PAUSED as soon as what is in flight has ended",
    "CREATED": "is queued; it is PAUSED when its turn comes, and the runs behind it wait",
}


async def resume_run(client: Client, run_id: str, reason: str, console: Console) -> None:
    """A paused run goes on, or its pause is withdrawn."""
    request = ResumeRunRequest(run_id=run_id, request_id=new_request_id(), reason=reason)
    run = (await client.call(client.runs.ResumeRun, request)).run
    goes_on = {"CREATED": "is queued as before", "WAITING": "goes on: it waits for a decision"}
    words = goes_on.get(state_of(run, "state"), "goes on")
    if run.waits_for:
        words = "goes on as soon as there is room among the tenant's runs"
    print_lines(console, [Line(f"run {run.id} {words}", "ok"), _follow(run)])


async def cancel_run(client: Client, run_id: str, reason: str, console: Console) -> None:
    """The run ends now, with everything of it."""
    request = CancelRunRequest(run_id=run_id, request_id=new_request_id(), reason=reason)
    run = (await client.call(client.runs.CancelRun, request)).run
    print_lines(console, [Line(f"run {run.id} is {state_of(run, 'state')}: {one_line(run.cancel_reason)}", "bad")])


async def close_session(client: Client, session_id: str, reason: str, console: Console) -> None:
    """All that is open in the session ends, and it takes nothing more."""
    request = CloseSessionRequest(session_id=session_id, request_id=new_request_id(), reason=reason)
    session = (await client.call(client.sessions.CloseSession, request)).session
    print_lines(console, [Line(f"session {session.id} is {state_of(session, 'state')}", "bad")])


async def switch_agent(client: Client, session_id: str, agent: str, console: Console) -> None:
    """Messages to come go to this agent."""
    request = SwitchAgentRequest(session_id=session_id, request_id=new_request_id(), agent=agent)
    session = (await client.call(client.sessions.SwitchAgent, request)).session
    print_lines(console, [Line(f"session {session.id} is {one_line(session.agent)}'s now", "ok")])


def _follow(run: Run) -> Line:
    return Line(f"  follow with: assent watch {run.session_id}", "quiet")
