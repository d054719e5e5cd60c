"""What operators see of a run over all processes: one trace, in the log of each, and transactions that stay short."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.scenes import settled, thinking
from tests.e2e.services import Process, Services
from tests.integration.orchestrator.client import Client, state


def log_lines(process: Process, session_id: str) -> Iterator[dict[str, Any]]:
    """What the process says about the session."""
    for line in process.log.read_text().splitlines():
        if session_id in line:
            yield json.loads(line)


async def test_a_request_and_its_run_are_one_trace_in_the_events_and_in_the_log_of_each_process(
    services: Services, client: Client
) -> None:
    session = await client.new_session()
    trace_id = secrets.token_hex(16)
    response = await services.http.post(
        f"/v1/sessions/{session.id}/messages",
        json={"text": "Break.", "agent": "coder"},
        headers={"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"},
    )
    assert response.headers["x-trace-id"] == trace_id
    log = await settled(client, session.id)
    assert {event.trace_id for event in log.durable[1:]} == {trace_id}
    (step,) = await client.steps(response.json()["run"]["id"])
    for process in (services.gateway, services.orchestrator, services.executor):
        lines = list(log_lines(process, session.id))
        assert lines, process.name
        assert {line["trace_id"] for line in lines} == {trace_id}
    for process in (services.orchestrator, services.executor):
        (failed,) = [line for line in log_lines(process, session.id) if line.get("step_id") == step.id]
        assert (failed["run_id"], failed["reason"]) == (step.run_id, "MODEL_ERROR")


async def test_no_transaction_is_open_while_a_model_speaks(services: Services, client: Client) -> None:
    session_id, run_id = await thinking(client, "Think long.")  # for longer than two seconds
    await settled(client, session_id)
    assert state(await client.get_run(run_id)) == "COMPLETED"
    async with httpx.AsyncClient(trust_env=False) as http:
        metrics = (await http.get(services.metrics_url)).text
    (family,) = [
        each for each in text_string_to_metric_families(metrics) if each.name == "assent_transaction_duration_seconds"
    ]
    counts = {s.labels["operation"]: s.value for s in family.samples if s.name.endswith("_count")}
    shorter = {s.labels["operation"]: s.value for s in family.samples if s.labels.get("le") == "1.0"}
    assert {"CreateSession", "SendMessage", "engine"} <= counts.keys()
    assert shorter == counts
