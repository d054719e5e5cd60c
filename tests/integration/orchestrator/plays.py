"""What an executor may be told to do by itself; a test holds what it cares for and leaves the rest to these."""

from tests.integration.orchestrator.scripted_executor import Act, Play

ROUTE_TO_ARCHITECT = {"complexity": "complex", "agent": "architect", "reason": "several steps"}
PLAN = {
    "title": "Two steps",
    "summary": "First one, then the other.",
    "subtasks": [
        {"key": "build", "title": "Build", "instructions": "Build it.", "agent": "coder", "depends_on": []},
        {"key": "check", "title": "Check", "instructions": "Check it.", "agent": "debug", "depends_on": ["build"]},
    ],
}


def answers(act: Act) -> None:
    """Every model call is answered in one go, every tool call is done."""
    match act.purpose:
        case "ROUTING":
            act.says_json(ROUTE_TO_ARCHITECT)
        case "PLANNING":
            act.says_json(PLAN)
        case "":
            act.returns("done")
        case _:
            act.says(f"{act.agent} is done")


def calls(tool: str, arguments_json: str = "{}", *, agent: str = "coder") -> Play:
    """As `answers`, but the agent calls the tool first; the tool's calls are held for the test."""

    def play(act: Act) -> None:
        if act.tool == tool:
            return
        is_first = act.agent == agent and act.purpose in ("SUBTASK", "ANSWER") and act.start.model.turn == 0
        if is_first:
            act.says("Calling.", (tool, arguments_json))
        else:
            answers(act)

    return play
