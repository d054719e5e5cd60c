"""An executor for a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.executor.talk import RunningExecutor, running_executor

SCRIPT = """
replies:
- {when: {contains: fails twice}, error: {reason: MODEL_RATE_LIMITED, retry_after: 1.5, times: 2}, text: third time}
- {when: {contains: hangs}, text: never, delay: 600}
- {when: {contains: large}, text: LARGE, delta_characters: 100000}
- text: Hello from the script
  reasoning: thinking
  tool_calls: [{tool: noop_ask, arguments_json: '{"id": 1234567890123456789}'}]
  delta_characters: 4
"""


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[RunningExecutor]:
    script = tmp_path / "script.yaml"
    script.write_text(SCRIPT.replace("LARGE", "ё" * 600_000))
    async with running_executor(tmp_path, script=script, executor_slots=8) as running:
        yield running
