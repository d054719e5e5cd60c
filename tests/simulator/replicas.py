"""The replicas of the world: real orchestrators, put together by their own composition root, called without sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc

from orchestrator import bootstrap
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.settings import Settings
from rpc import principal, tracing
from rpc.errors import Translate
from rpc.problem import Problem
from rpc.server import Service
from tests.simulator.loop import NODE, Life, SimLoop
from tests.simulator.network import Network, Pipe, unavailable
from tests.simulator.postgres import Postgres

LEASE_SECONDS, RENEW_SECONDS = 4.0, 1.3


class SimServer:
    """Stands for the gRPC server: its methods are called by name, and answer as over the wire."""

    def __init__(
        self, name: str, address: str, services: Sequence[Service], *, translate: Translate, **_settings: object
    ) -> None:
        self._servicers = {service.name.rpartition(".")[2]: service.servicer for service in services}
        self._translate = translate
        self.is_draining = False
        self.calls: dict[asyncio.Task[Any], None] = {}

    async def start(self) -> int:
        _SERVERS[NODE.get().name] = self
        return 1

    def set_ready(self, ready: bool) -> None:
        """Nobody asks."""

    set_serving = set_ready

    async def retire(self) -> None:
        """Nobody is connected who could be told."""

    async def drain(self) -> None:
        self.is_draining = True

    async def stop(self, grace: float | None = None) -> None:
        await self.drain()
        if self.calls:
            await asyncio.wait(list(self.calls), timeout=grace)
        for call in list(self.calls):
            call.cancel()

    async def unary(self, path: str, request: Any, who: principal.Principal) -> Any:
        """The response; raises Problem."""
        with self._boundary(who):
            return await self._method(path)(request, None)

    async def streaming(self, path: str, request: Any, who: principal.Principal) -> AsyncIterator[Any]:
        with self._boundary(who):
            async with aclosing(self._method(path)(request, None)) as responses:
                async for response in responses:
                    yield response

    def _method(self, path: str) -> Any:
        if self.is_draining:
            raise Problem(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", "stopping", disposition="RETRYABLE")
        service, _, method = path.partition("/")
        return getattr(self._servicers[service], method)

    def _boundary(self, who: principal.Principal) -> "_Boundary":
        return _Boundary(self._translate, who)


class _Boundary:
    """Everything raised within becomes a Problem, as rpc/errors.py does it; what nobody planned stays what it is."""

    def __init__(self, translate: Translate, who: principal.Principal) -> None:
        self._translate, self._who = translate, who

    def __enter__(self) -> None:
        tracing.enter_span(tracing.start_span("call", None))
        principal.enter(self._who, "")

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and not isinstance(error, Problem):
            problem = self._translate(error)
            if problem is not None:
                raise problem from error


_SERVERS: dict[str, SimServer] = {}


class Replica:
    """One orchestrator at a time under one name; every start is a new process."""

    def __init__(
        self,
        loop: SimLoop,
        network: Network,
        postgres: Postgres,
        name: str,
        addresses: Sequence[str],
        runs_per_tenant: int,
    ) -> None:
        self.name = name
        self._loop, self._network, self._postgres = loop, network, postgres
        self._addresses = addresses
        self._runs_per_tenant = runs_per_tenant
        self._starts = 0
        # By age, as a dictionary is: a set of objects has another order each time, and a seed is one history.
        self._lost_calls: dict[Callable[[], None], None] = {}
        self.server: SimServer | None = None
        self.start()

    @property
    def is_up(self) -> bool:
        return self.node.life is not Life.DEAD

    def start(self) -> None:
        self._starts += 1
        self.node = self._loop.node(f"{self.name}#{self._starts}")
        self.server = None
        self._main = self.node.spawn(self._run())

    async def _run(self) -> None:
        settings = Settings(
            database_url="postgresql://simulated",
            grpc_addr="127.0.0.1:0",
            executor_addrs=",".join(self._addresses),
            lease_seconds=LEASE_SECONDS,
            lease_renew_seconds=RENEW_SECONDS,
            stop_grace_seconds=1.0,
            runs_per_tenant=self._runs_per_tenant,
        )
        while True:
            self.orchestrator = bootstrap.Orchestrator(settings)
            try:
                await self.orchestrator.start()
            except StorageUnavailable:  # its supervisor starts it again
                await asyncio.sleep(0.5)
                continue
            self.server = _SERVERS.pop(self.node.name)
            done, _ = await asyncio.wait(self.orchestrator.tasks, return_when=asyncio.FIRST_COMPLETED)
            if not self.server.is_draining:
                said = {"message": "what must go on for ever has ended", "exception": next(iter(done)).exception()}
                self._loop.call_exception_handler(said)
            return

    # What befalls it

    def crash(self) -> None:
        """Gone in the middle of everything: nothing of it runs any more, its connections break."""
        self.node.life = Life.DEAD
        for connection in [c for c in self._postgres.connections if c.node is self.node]:
            self._postgres.hang_up(connection)
        self._network.cut(node=self.node)
        for lose in list(self._lost_calls):
            lose()

    def stand_still(self) -> None:
        if self.node.life is Life.RUNS:
            self.node.life = Life.STANDS

    def go_on(self) -> None:
        if self.node.life is Life.STANDS:
            self.node.life = Life.RUNS

    async def stop(self) -> None:
        """As on SIGTERM; then it is gone."""
        node = self.node
        if self.server is not None and node.runs:
            stopping = node.spawn(self.orchestrator.stop())
            await asyncio.wait([stopping], timeout=30)
            if stopping.done() and not stopping.cancelled():
                stopping.result()
        if self.node is node and node.life is not Life.DEAD:
            self.crash()

    # Calls

    async def call(self, path: str, request: Any, who: principal.Principal, *, seconds: float) -> Any:
        """The response; raises Problem, as a client sees it: UNAVAILABLE where nobody answered."""
        server, node = self.server, self.node
        await asyncio.sleep(self._network.delay())
        if server is None or node.life is Life.DEAD:
            raise Problem.from_rpc_error(unavailable("nobody is there"))
        task = node.spawn(server.unary(path, request, who))
        server.calls[task] = None
        task.add_done_callback(lambda ended: server.calls.pop(ended, None))
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        task.add_done_callback(lambda ended: self._travel_back(ended, answer))

        def lose() -> None:
            self._loop.outside.later(self._network.delay(), _fail, answer, unavailable("connection lost"))

        self._lost_calls[lose] = None
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            node.later(self._network.delay(), task.cancel)
            raise Problem(grpc.StatusCode.DEADLINE_EXCEEDED, "", "no answer", disposition="RETRYABLE") from None
        except grpc.aio.AioRpcError as error:
            raise Problem.from_rpc_error(error) from None
        finally:
            self._lost_calls.pop(lose, None)

    async def follow(self, path: str, request: Any, who: principal.Principal) -> AsyncIterator[Any]:
        """The responses of a streaming method; raises Problem."""
        server, node, outside = self.server, self.node, self._loop.current()
        await asyncio.sleep(self._network.delay())
        if server is None or node.life is Life.DEAD:
            raise Problem.from_rpc_error(unavailable("nobody is there"))
        pipe = Pipe(self._network, node, outside)
        task = node.spawn(_pump(server.streaming(path, request, who), pipe))
        server.calls[task] = None
        task.add_done_callback(lambda ended: server.calls.pop(ended, None))

        def lose() -> None:
            pipe.send(unavailable("connection lost"))

        self._lost_calls[lose] = None
        try:
            while (item := await pipe.receive()) is not None:
                if isinstance(item, grpc.aio.AioRpcError):
                    raise Problem.from_rpc_error(item)
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._lost_calls.pop(lose, None)
            pipe.is_cut = True
            node.later(self._network.delay(), task.cancel)

    def _travel_back(self, ended: "asyncio.Task[Any]", answer: "asyncio.Future[Any]") -> None:
        delay = self._network.delay()
        if ended.cancelled():
            self._loop.outside.later(delay, _fail, answer, unavailable("the call was cut off"))
        elif (error := ended.exception()) is not None:
            self._loop.outside.later(delay, _fail, answer, error)
        else:
            self._loop.outside.later(delay, _succeed, answer, ended.result())


async def _pump(responses: AsyncIterator[Any], pipe: Pipe) -> None:
    try:
        async for response in responses:
            pipe.send(response)
        pipe.send(None)
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
        pipe.send(error)


def _fail(answer: "asyncio.Future[Any]", error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def _succeed(answer: "asyncio.Future[Any]", response: Any) -> None:
    if not answer.done():
        answer.set_result(response)
