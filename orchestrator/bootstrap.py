"""The orchestrator's composition root: the only place that knows how the parts are put together."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from gen.assent.v1 import (
    approval_service_pb2_grpc,
    catalog_service_pb2_grpc,
    plan_service_pb2_grpc,
    run_service_pb2_grpc,
    session_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from orchestrator.catalog import load_catalog
from orchestrator.clock import new_id, now_micros
from orchestrator.domain.catalog import Tool
from orchestrator.domain.differing import FileNow
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.expected import Checked
from orchestrator.domain.questions import ASK_USER
from orchestrator.domain.records import Approval, Session, Workspace
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.starting import OVERDUE_GRACE
from orchestrator.engine.engine import Engine
from orchestrator.engine.executors import Executors
from orchestrator.engine.files import FileRefused, NobodyReads
from orchestrator.engine.link import ExecutorLink
from orchestrator.operations.context import Context
from orchestrator.operations.looking import Looking
from orchestrator.servicers.approvals import Approvals
from orchestrator.servicers.catalogs import Catalogs
from orchestrator.servicers.errors import translate
from orchestrator.servicers.later import the_rest_later
from orchestrator.servicers.notice import body_of
from orchestrator.servicers.plans import Plans
from orchestrator.servicers.refused import audited
from orchestrator.servicers.runs import Runs
from orchestrator.servicers.sessions import Sessions
from orchestrator.settings import Settings
from orchestrator.store import contents, queries, snapshots
from orchestrator.store.codec import clean
from orchestrator.store.counting import recount
from orchestrator.store.database import Database
from orchestrator.store.kept import Kept
from orchestrator.store.leases import Lease
from orchestrator.store.notify import Notices
from orchestrator.store.paging import Paging
from orchestrator.store.retention import Sweeper
from orchestrator.store.writer import Writer
from orchestrator.streaming.feed import Position
from orchestrator.streaming.hub import Hub
from orchestrator.streaming.inbox import Filter, Inboxes
from orchestrator.streaming.reading import SharedReading, Wanted
from orchestrator.streaming.relay import Relay
from orchestrator.streaming.shown import Tally
from orchestrator.streaming.webhook import Webhook
from rpc.metrics import MetricsServer
from rpc.server import Server, Service

_log = structlog.get_logger("orchestrator")
OVERDUE_LOOK_SECONDS = 1.0
READY_LOOK_SECONDS = 1.0


@the_rest_later(usage_service_pb2.DESCRIPTOR.services_by_name["UsageService"])
class Usages:
    """UsageService: everything of it comes later."""


@dataclass(frozen=True, slots=True)
class _Ticks:
    now: Callable[[], int]
    new_id: Callable[[], str]


class _Store:
    """The store as the engine and the hub see it."""

    def __init__(self, database: Database, writer: Writer, kept: Kept) -> None:
        self._database = database
        self.write = writer.write
        self.write_waiting = writer.write_waiting
        self.keep = kept.put
        self.forget = kept.forget

    async def load(self, tenant: str, session_id: str) -> Snapshot | None:
        self.forget(tenant, session_id)  # the engine is about to go on with it
        return await snapshots.load(self._database, tenant, session_id)

    async def keep_content(self, tenant: str, session_id: str, checked: Checked, data: bytes) -> None:
        await contents.keep(self._database, tenant, session_id, checked.sha256, data)


class _Log:
    """The event log as watchers read it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pages(self, wanted: Sequence[Wanted]) -> list[list[LoggedEvent]]:
        return await queries.events_after(self._database, [queries.EventsAfter(*each) for each in wanted])

    async def positions(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Position]:
        found = await queries.standings(self._database, keys)
        return {key: Position(*standing) for key, standing in found.items()}


class _Pending:
    """What waits for people, as their inboxes read it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: Filter, token: str) -> tuple[Sequence[Approval], str]:
        page = await queries.pending_approvals(
            self._database, wanted.tenant, _of_approvals(wanted), paging=Paging(0, token)
        )
        return page.items, page.next_page_token

    async def tally(self, wanted: Filter) -> Tally:
        return Tally(*await queries.pending_tally(self._database, wanted.tenant, _of_approvals(wanted)))


def _of_approvals(wanted: Filter) -> queries.OfApprovals:
    return queries.OfApprovals(wanted.kind, wanted.session_id, wanted.run_id, clean(wanted.tool))


class Orchestrator:
    """One replica, put together; `start`, then `stop`. Every start has a new owner id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalog = load_catalog(settings.catalog_dir)
        self._owner = new_id()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """The port it serves on. Raises BadAddress, and StorageUnavailable when there is no database to begin with."""
        settings = self._settings
        self._metrics = MetricsServer(settings.metrics_addr)
        self._database = await Database.open(settings.database_url)
        log = SharedReading(_Log(self._database))
        self._hub = Hub(log)
        self._inboxes = Inboxes(log, _Pending(self._database), self._hub.ended)
        self._webhook = self._make_webhook()
        self._writer = Writer(
            self._database.connect_writer,
            clock=now_micros,
            on_written=self._written,
            runs_per_tenant=settings.runs_per_tenant,
            on_fewer_running=lambda: self._engine.look(),
            delivers=self._webhook is not None,
        )
        await self._writer.start()
        self._kept = Kept()
        self._engine = self._make_engine()
        self._relay = Relay(self._owner, Notices(self._database), self._hub, self._inboxes, self._engine)
        self._server = self._make_server()
        self._sweeper = Sweeper(self._database, days=settings.retention_days, runs_limited=settings.runs_per_tenant > 0)
        if settings.runs_per_tenant:
            await recount(self._database)
        await self._lease.register()
        port = await self._server.start()
        works = [self._engine.run(), self._hub.look_around(), self._watch_overdue(), self._watch_readiness()]
        works += [self._inboxes.run(), self._relay.run(), *(link.run() for link in self._links)]
        works.append(self._sweeper.run())
        works += [self._webhook.run()] if self._webhook else []
        self._tasks = [asyncio.create_task(work) for work in works]
        return port

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """What must go on for as long as the process does."""
        return tuple(self._tasks)

    async def stop(self) -> None:
        """Take no more sessions and calls, end the streams, hand the sessions over, close what was opened.

        From the first moment somebody else can go on: what commands still under way leave to be done is told to the
        other replicas, and what is let go they claim at once.
        """
        self._engine.take_no_more()
        await self._server.retire()
        await self._server.drain()
        ending = asyncio.create_task(self._server.stop(self._settings.stop_grace_seconds))
        self._hub.close()
        self._inboxes.wake()
        await self._engine.stop()
        await self._relay.gave_up()
        await ending
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._writer.close()
        await self._database.close()
        self._metrics.close()

    def _make_webhook(self) -> Webhook | None:
        settings = self._settings
        if not settings.webhook_url:
            return None
        return Webhook(self._database, settings.webhook_url, settings.webhook_key, body_of)

    def _written(self, session: Session, events: Sequence[LoggedEvent]) -> None:
        self._relay.written(session, events)
        if self._webhook is not None:
            self._webhook.written(events)

    def _make_engine(self) -> Engine:
        settings = self._settings
        self._lease = Lease(
            self._database,
            self._owner,
            settings.grpc_addr,
            seconds=settings.lease_seconds,
            runs_per_tenant=settings.runs_per_tenant,
        )
        self._executors = Executors(
            self._catalog,
            on_delta=lambda *said: self._relay.said(*said),
            on_room=lambda slots: self._engine.room_again(slots),
        )
        self._links = [
            ExecutorLink(
                address,
                self._executors,
                clock=now_micros,
                offer=self._offer,
                dispatched=partial(queries.dispatched, self._database),
            )
            for address in settings.executors
        ]
        for link in self._links:
            self._executors.add_line(link)
        return Engine(
            self._owner,
            store=_Store(self._database, self._writer, self._kept),
            leases=self._lease,
            executors=self._executors,
            catalog=self._catalog,
            ticks=_Ticks(now_micros, new_id),
            renew_seconds=settings.lease_renew_seconds,
            lease_seconds=settings.lease_seconds,
        )

    def _make_server(self) -> Server:
        ctx = Context(
            self._database,
            self._writer,
            self._engine,
            self._catalog,
            now_micros,
            new_id,
            on_deleted=self._deleted,
            kept=self._kept,
        )
        services = (
            ("SessionService", Sessions(ctx, self._hub), session_service_pb2_grpc.add_SessionServiceServicer_to_server),
            ("PlanService", Plans(ctx), plan_service_pb2_grpc.add_PlanServiceServicer_to_server),
            ("RunService", Runs(ctx), run_service_pb2_grpc.add_RunServiceServicer_to_server),
            (
                "ApprovalService",
                Approvals(ctx, self._inboxes, Looking(self._database, self._file_now)),
                approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server,
            ),
            ("CatalogService", Catalogs(ctx), catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server),
            ("UsageService", Usages(), usage_service_pb2_grpc.add_UsageServiceServicer_to_server),
        )
        return Server(
            "orchestrator",
            self._settings.grpc_addr,
            [Service(f"assent.v1.{name}", servicer, register) for name, servicer, register in services],
            translate=translate,
            on_invalid=audited(ctx),
            reflection=self._settings.reflection,
        )

    def _deleted(self, tenant: str, session_id: str) -> None:
        self._hub.gone(tenant, session_id)
        self._kept.forget(tenant, session_id)
        self._sweeper.nudge()

    async def _file_now(self, workspace: Workspace, path: str, most_bytes: int, seconds: float) -> FileNow | None:
        try:
            return FileNow(await self._executors.files.read(workspace, path, most_bytes=most_bytes, seconds=seconds))
        except FileRefused as refused:
            return FileNow(None) if refused.missing else None
        except NobodyReads:
            return None

    def _offer(self, tools: list[Tool]) -> None:
        for tool in tools:
            if tool.name in (*self._catalog.client_tools, ASK_USER.name):
                _log.warning("tool_shadowed", tool=tool.name)  # the catalog, or Assent itself, has one of its name
        self._catalog.tools.update({tool.name: tool for tool in tools})

    async def _watch_overdue(self) -> None:
        while True:
            await asyncio.sleep(OVERDUE_LOOK_SECONDS)
            self._executors.overdue(now_micros(), OVERDUE_GRACE)
            self._executors.try_again()

    async def _watch_readiness(self) -> None:
        """Ready means that a write to the database goes through."""
        while True:
            self._server.set_ready(await self._database.ready())
            await asyncio.sleep(READY_LOOK_SECONDS)
