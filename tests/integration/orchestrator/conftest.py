"""An orchestrator of the test's own on a database that is empty, with an executor that the test directs."""

import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from orchestrator import bootstrap, clock
from orchestrator.catalog import load_catalog
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.records import ApprovalTerms
from orchestrator.settings import SHIPPED_CATALOG
from tests.integration.orchestrator.client import Client
from tests.integration.orchestrator.over_http import over_http
from tests.integration.orchestrator.replica import PassTime, Replica, Replicas, Tables, driving, tell_callers_apart
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor
from tests.postgres import Databases


@pytest.fixture(scope="session")
async def shared_database_url(databases: Databases, template_url: str) -> AsyncIterator[str]:
    async with databases.database(template=template_url) as url:
        yield url


@pytest.fixture
async def database_url(shared_database_url: str) -> AsyncIterator[str]:
    """One database for all tests here, emptied after each: a tenth of the time that a new one takes."""
    yield shared_database_url
    async with Tables.of(shared_database_url) as tables:
        await tables.clear()


@pytest.fixture
async def executor() -> AsyncIterator[ScriptedExecutor]:
    """It holds every step until the test says what becomes of it, or gives it a `play`."""
    executor = ScriptedExecutor()
    await executor.start()
    yield executor
    await executor.stop()


@pytest.fixture
async def replicas(
    database_url: str, executor: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Replicas]:
    tell_callers_apart(monkeypatch)
    replicas = Replicas(database_url, executor.address)
    yield replicas
    await replicas.stop()
    assert not driving(), "an orchestrator that has stopped still drives a session"


@pytest.fixture
async def http(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    """The same replica as the client's, over HTTP."""
    async with over_http(client) as http:
        yield http


@pytest.fixture
def hasty_catalog(tmp_path: Path) -> Path:
    """The shipped catalog, but failed attempts are followed by others almost at once."""
    directory = tmp_path / "hasty"
    shutil.copytree(SHIPPED_CATALOG, directory)
    for path in (directory / "agents").glob("*.yaml"):
        with path.open("a") as agent:
            agent.write("retries: {first_backoff_seconds: 0.02}\n")
    return directory


@pytest.fixture
def on_terms(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let replicas that are started from here on ask on these terms, by kind of question."""

    def ask(**terms: ApprovalTerms) -> None:
        def load(directory: Path) -> Catalog:
            catalog = load_catalog(directory)
            catalog.policy = replace(catalog.policy, terms=terms)
            catalog.policies[catalog.policy.name] = catalog.policy
            return catalog

        monkeypatch.setattr(bootstrap, "load_catalog", load)

    return ask


@pytest.fixture
async def replica(replicas: Replicas, executor: ScriptedExecutor) -> Replica:
    replica = await replicas.start()
    await executor.joined()
    return replica


@pytest.fixture
def client(replica: Replica) -> Client:
    return replica.client


@pytest.fixture
async def tables(database_url: str) -> AsyncIterator[Tables]:
    async with Tables.of(database_url) as tables:
        yield tables


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch, tables: Tables) -> PassTime:
    """Moves the clocks there are: the database's and that of every replica that is started from here on."""
    ahead = 0.0
    monkeypatch.setattr(bootstrap, "now_micros", lambda: clock.now_micros() + round(ahead * 1e6))

    async def move(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds
        await tables.pass_time(ahead)

    return move
