"""The standard health service: whether a process, or one of its services, can do its work now.

Our own servicer because the library's keeps every watcher's stream open, and so a stopping server waiting.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from rpc.errors import Context
from rpc.problem import Problem

READY = "ready"
"""The name under which a process says whether what it depends on is there too."""


class Health(HealthServicer):
    """Answers for the process (the empty name) and each of its services; not serving until told so."""

    def __init__(self, services: Iterable[str]) -> None:
        self._names = frozenset(("", READY, *services))
        self._serving = False
        self._ready = True
        self._closed = False
        self._watchers = 0
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:
        """Change the answer; too late once it is closed."""
        if not self._closed:
            self._serving = serving
            self._tell()

    def set_ready(self, ready: bool) -> None:
        """Change what is said of READY alone; a process that does not serve is never ready."""
        if not self._closed and ready != self._ready:
            self._ready = ready
            self._tell()

    @property
    def is_watched(self) -> bool:
        """Whether a client that chooses between processes, or somebody else, is to be told of a change."""
        return self._watchers > 0

    def close(self) -> None:
        """Not serving from now on, whatever comes; watchers are told so and their streams end."""
        self._closed = True
        self._serving = False
        self._tell()

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        if request.service not in self._names:
            unknown = [("service", "this process has no such service")]
            raise Problem(grpc.StatusCode.NOT_FOUND, "INVALID_REQUEST", unknown[0][1], fields=unknown)
        return self._answer(request.service)

    async def Watch(self, request: HealthCheckRequest, context: Context) -> AsyncIterator[HealthCheckResponse]:
        told = None
        self._watchers += 1
        try:
            while True:
                changed = self._changed
                answer = self._answer(request.service)
                if answer != told:
                    yield answer
                    told = answer
                elif self._closed:
                    return
                else:
                    await changed.wait()
        finally:
            self._watchers -= 1

    def _answer(self, service: str) -> HealthCheckResponse:
        if service not in self._names:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        serving = self._serving and (self._ready or service != READY)
        return HealthCheckResponse(status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
