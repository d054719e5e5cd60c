"""A grant lets run what it says, while it stands, and nothing else."""

import json
from collections.abc import Iterator
from hashlib import sha256

from orchestrator.domain.records import Grant
from tests.simulator.checks.steps import events
from tests.simulator.history import History

At = tuple[str, int]


def check_grants(history: History) -> Iterator[str]:
    grants = {grant.id: grant for grant in history.rows.session_grants}
    said = {grant_id: dict[str, At]() for grant_id in grants}
    for at, body in events(history, "grant_changed"):
        if body["grant"]["id"] not in grants:
            yield f"grant {body['grant']['id']} is in the log only"
        elif body["trigger"] in said[body["grant"]["id"]]:
            yield f"grant {body['grant']['id']} was {body['trigger']} twice"
        else:
            said[body["grant"]["id"]][body["trigger"]] = at
    steps = {step.id: step for step in history.rows.steps}
    times = {
        (event.session_id, event.sequence): event.event_time for log in history.rows.logs.values() for event in log
    }
    for at, body in events(history, "step_started"):
        if not (grant_id := body.get("grant_id")) or body["dispatch_number"] > 1:
            continue
        where, grant = f"step {body['step_id']} started with grant {grant_id}", grants.get(grant_id)
        if grant is None:
            yield f"{where}, which is not there"
            continue
        step = steps[body["step_id"]]
        if (grant.session_id, grant.tool, grant.schema_digest) != (step.session_id, step.tool, step.schema_digest):
            yield f"{where}, which is about {grant.tool} in {grant.session_id}"
        if not _holds(grant, step.arguments_json):
            yield f"{where}, and {grant.constraint} is not true of {step.arguments_json}"
        made, ended = said[grant_id].get("made", at), min(_ends(said[grant_id]), default=None)
        if not made < at or (ended is not None and ended < at) or times[at] >= grant.expire_time:
            yield f"{where}, outside its time"
    for grant in grants.values():
        if grant.uses < len({step.id for step in steps.values() if step.grant_id == grant.id and step.dispatch_number}):
            yield f"grant {grant.id} has {grant.uses} uses, and was used by more"


def _ends(said: dict[str, At]) -> Iterator[At]:
    return (at for trigger, at in said.items() if trigger != "made")


def _holds(grant: Grant, arguments_json: str) -> bool:
    """Of the constraints that people have here."""
    digest, arguments = sha256(arguments_json.encode()).hexdigest(), json.loads(arguments_json)
    what = str(arguments.get("what", ""))
    known = {
        f'arguments_sha256 == "{digest}"': True,
        'arguments.what != ""': what != "",
        'arguments.what.endsWith("1")': what.endswith("1"),
    }
    return known.get(grant.constraint, False)
