"""The processes that are measured: an embedded PostgreSQL (or ASSENT_DATABASE_URL), an orchestrator, an executor.

The gateway has no part in it: the driver speaks gRPC.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.health import grpc_serves, with_port
from cli.postgres import EmbeddedPostgres
from cli.spawn import last_lines, spawn
from rpc.addresses import Address

ROOT = Path(__file__).parents[1]
CATALOG = Path(__file__).parent / "catalog"
START_SECONDS = 30.0
_LOCAL = Address("127.0.0.1", 0)
_PYTHON = (sys.executable, "-P")


@dataclass(frozen=True, slots=True)
class Services:
    """Where the orchestrator listens, and the process ids."""

    address: Address
    orchestrator: int
    executor: int
    metrics_url: str  # of the orchestrator


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="assent-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def database(data: Path) -> Iterator[str]:
    """The URL of a migrated PostgreSQL; ours has its default settings, fsync and all."""
    if given := os.environ.get("ASSENT_DATABASE_URL"):
        migrate(given)
        yield given
        return
    server = EmbeddedPostgres(data / "postgres")
    server.start()
    try:
        migrate(server.url)
        yield server.url
    finally:
        server.stop()


def migrate(url: str) -> None:
    """Bring the schema of this database up to date."""
    command = [*_PYTHON, "-m", "orchestrator", "migrate"]
    done = subprocess.run(command, env=_environment(url), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the database could not be prepared:\n{done.stderr}")


def _environment(url: str) -> dict[str, str]:
    """Ours, without what the developer has set for their own services."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSENT_", "OTEL_"))}
    return kept | {"ASSENT_DATABASE_URL": url}


@asynccontextmanager
async def services(data: Path, url: str, *, profile: Path | None = None) -> AsyncIterator[Services]:
    """Start the two, as users do; what they log is in `data`. With `profile`, how the orchestrator spent its time."""
    grpc, executor, metrics = with_port(_LOCAL), with_port(_LOCAL), with_port(_LOCAL)
    environment = _environment(url) | {
        "ASSENT_DATA_DIR": str(data),
        "ASSENT_GRPC_ADDR": str(grpc),
        "ASSENT_EXECUTOR_ADDRS": str(executor),
        "ASSENT_CATALOG_DIR": str(CATALOG),
        "ASSENT_SCRIPT": str(CATALOG / "scripts/bench.yaml"),
    }
    orchestrator = ["-m", "bench.profiled", str(profile)] if profile else ["-m", "orchestrator"]
    logs = (data / "executor.log", data / "orchestrator.log")
    children = [spawn([*_PYTHON, "-m", "executor"], log=logs[0], environment=environment, directory=ROOT)]
    measured = environment | {"ASSENT_METRICS_ADDR": str(metrics)}
    children.append(spawn([*_PYTHON, *orchestrator], log=logs[1], environment=measured, directory=ROOT))
    try:
        await _wait_until_serving(list(zip((executor, grpc), logs, children, strict=True)))
        yield Services(grpc, children[1].pid, children[0].pid, f"http://{metrics}/metrics")
    except Exception:
        sys.stderr.write("\n".join(last_lines(log) for log in logs))
        raise
    finally:
        for child in reversed(children):
            child.send_signal(signal.SIGTERM)
            await asyncio.to_thread(child.wait, START_SECONDS)


async def _wait_until_serving(services: Sequence[tuple[Address, Path, subprocess.Popen[bytes]]]) -> None:
    deadline = time.monotonic() + START_SECONDS
    for address, log, child in services:
        while not await grpc_serves(address):
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"a service did not start:\n{last_lines(log)}")
            await asyncio.sleep(0.05)
