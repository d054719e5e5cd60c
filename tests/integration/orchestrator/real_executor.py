"""The executor itself, in this process: a script of the test's own, a workspace root in a directory of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from executor import bootstrap
from executor.settings import Settings


@asynccontextmanager
async def serving(directory: Path, script: str, **settings: Any) -> AsyncIterator[tuple[bootstrap.Parts, str]]:
    """Its parts and its address; the root is `root` in the directory. `settings` are more of the executor's."""
    of_test = {"executor_addr": "127.0.0.1:0", "workspace_roots": str(directory / "root")}
    parts = await bootstrap.build(Settings(**{**of_test, "script": _written(directory, script), **settings}))
    port = await bootstrap.start(parts)
    ticking = asyncio.create_task(parts.executor.tick())
    try:
        yield parts, f"127.0.0.1:{port}"
    finally:
        ticking.cancel()
        await parts.ledger.end()
        await parts.server.stop(0)


def _written(directory: Path, script: str) -> Path:
    directory.mkdir(exist_ok=True)
    file = directory / "script.yaml"
    file.write_text(script)
    return file
