"""RunService: runs, their ledger of steps, and their report."""

from google.api import httpbody_pb2

from gen.assent.v1 import artifact_pb2, run_pb2, step_pb2
from gen.assent.v1 import run_service_pb2 as pb
from orchestrator.domain.errors import NotFound
from orchestrator.domain.records import Run
from orchestrator.operations import artifacts, reports, runs
from orchestrator.operations.context import Context
from orchestrator.servicers.convert import enum_word, to_proto
from orchestrator.servicers.later import the_rest_later
from orchestrator.servicers.reports import report_to_proto
from orchestrator.servicers.requests import caller, reader
from orchestrator.store import queries
from orchestrator.store.paging import Paging
from rpc.errors import Context as RpcContext


@the_rest_later(pb.DESCRIPTOR.services_by_name["RunService"])
class Runs:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def GetRun(self, request: pb.GetRunRequest, context: RpcContext) -> pb.GetRunResponse:
        return pb.GetRunResponse(run=to_proto(run_pb2.Run, await self._run(request.run_id)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: RpcContext) -> pb.ListRunsResponse:
        page = await queries.list_runs(
            self._ctx.database,
            reader().tenant,
            session_id=request.session_id,
            state=enum_word(run_pb2.RunState.DESCRIPTOR, request.state),
            paging=Paging(request.page_size, request.page_token),
        )
        found = [to_proto(run_pb2.Run, r) for r in page.items]
        return pb.ListRunsResponse(runs=found, next_page_token=page.next_page_token)

    async def PauseRun(self, request: pb.PauseRunRequest, context: RpcContext) -> pb.PauseRunResponse:
        run = await runs.pause(self._ctx, caller("PauseRun", request), request.run_id, request.reason)
        return pb.PauseRunResponse(run=to_proto(run_pb2.Run, run))

    async def ResumeRun(self, request: pb.ResumeRunRequest, context: RpcContext) -> pb.ResumeRunResponse:
        run = await runs.resume(self._ctx, caller("ResumeRun", request), request.run_id, request.reason)
        return pb.ResumeRunResponse(run=to_proto(run_pb2.Run, run))

    async def CancelRun(self, request: pb.CancelRunRequest, context: RpcContext) -> pb.CancelRunResponse:
        who = caller("CancelRun", request)
        run = await runs.cancel(self._ctx, who, request.run_id, request.reason)
        return pb.CancelRunResponse(run=to_proto(run_pb2.Run, run))

    async def ListSteps(self, request: pb.ListStepsRequest, context: RpcContext) -> pb.ListStepsResponse:
        run = await self._run(request.run_id)
        page = await queries.list_steps(
            self._ctx.database,
            reader().tenant,
            run.id,
            subtask_id=request.subtask_id,
            kind=enum_word(step_pb2.StepKind.DESCRIPTOR, request.kind),
            paging=Paging(request.page_size, request.page_token),
        )
        found = [to_proto(step_pb2.Step, s) for s in page.items]
        return pb.ListStepsResponse(steps=found, next_page_token=page.next_page_token)

    async def ListArtifacts(self, request: pb.ListArtifactsRequest, context: RpcContext) -> pb.ListArtifactsResponse:
        run = await self._run(request.run_id)
        page = await queries.list_artifacts(
            self._ctx.database,
            reader().tenant,
            run.id,
            subtask_id=request.subtask_id,
            paging=Paging(request.page_size, request.page_token),
        )
        found = [to_proto(artifact_pb2.Artifact, a) for a in page.items]
        return pb.ListArtifactsResponse(artifacts=found, next_page_token=page.next_page_token)

    async def GetArtifact(self, request: pb.GetArtifactRequest, context: RpcContext) -> pb.GetArtifactResponse:
        part = await artifacts.read(self._ctx, reader(), request.artifact_id, request.offset, request.length)
        content = httpbody_pb2.HttpBody(content_type=part.artifact.media_type, data=part.data)
        return pb.GetArtifactResponse(artifact=to_proto(artifact_pb2.Artifact, part.artifact), content=content)

    async def GetRunReport(self, request: pb.GetRunReportRequest, context: RpcContext) -> pb.GetRunReportResponse:
        report = await reports.of_run(self._ctx, reader(), await self._run(request.run_id))
        return pb.GetRunReportResponse(report=report_to_proto(report))

    async def _run(self, run_id: str) -> Run:
        run = await queries.get_run(self._ctx.database, reader().tenant, run_id)
        if run is None:
            raise NotFound("run", run_id)
        return run
