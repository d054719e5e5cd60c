"""A remembered yes over a crash: it lets the same call run unasked, and taking it back lasts as well."""

from gen.assent.v1.approval_service_pb2 import ListGrantsRequest, RevokeGrantRequest
from tests.e2e.scenes import question, settled
from tests.e2e.services import Services, answered
from tests.integration.orchestrator.client import Client, state


async def test_what_is_remembered_and_what_is_taken_back_outlive_the_orchestrator(
    services: Services, client: Client
) -> None:
    session = await client.new_session()
    await client.send(session.id, "Write.")
    approval = await question(client, session.id)
    assert (approval.tool, approval.may_remember) == ("write_file", True)
    only = {"constraint": "arguments.path == 'note.txt'", "lifetime": {"seconds": 3600}}
    decided = await client.decide(approval, "APPROVE", remember=only)
    await services.orchestrator.kill()
    await services.orchestrator.start()
    await settled(client, session.id)

    run = (await answered(lambda: client.send(session.id, "Write."))).run
    await settled(client, session.id)
    (step,) = [step for step in await client.steps(run.id) if step.tool]
    assert (state(step), step.grant_id) == ("SUCCEEDED", decided.decision.grant_id)

    await client.call(client.approvals.RevokeGrant, RevokeGrantRequest(grant_id=step.grant_id))
    await services.orchestrator.kill()
    await services.orchestrator.start()
    (grant,) = (
        await answered(lambda: client.call(client.approvals.ListGrants, ListGrantsRequest(session_id=session.id)))
    ).grants
    assert (grant.uses, grant.revoker) == (1, "developer")
    await answered(lambda: client.send(session.id, "Write."))
    assert (await question(client, session.id)).tool == "write_file"
