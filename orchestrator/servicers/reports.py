"""A run's report as the contract has it."""

from gen.assent.v1 import artifact_pb2, grant_pb2, plan_pb2, run_pb2, run_report_pb2, usage_pb2
from orchestrator.domain.records import Approval
from orchestrator.domain.report import Report
from orchestrator.servicers.convert import plan_to_proto, to_proto


def report_to_proto(report: Report) -> run_report_pb2.RunReport:
    plan = plan_to_proto(report.plan, list(report.subtasks)) if report.plan else None
    return run_report_pb2.RunReport(
        run=to_proto(run_pb2.Run, report.run),
        markdown=report.markdown,
        plan=plan,
        subtasks=[to_proto(plan_pb2.Subtask, s) for s in report.subtasks],
        steps=[to_proto(run_report_pb2.StepSummary, s) for s in report.steps],
        decisions=[_decision(a) for a in report.approvals],
        usage=to_proto(usage_pb2.Usage, report.run.usage),
        grants=[to_proto(grant_pb2.Grant, g) for g in report.grants],
        artifacts=[to_proto(artifact_pb2.Artifact, a) for a in report.artifacts],
        files_written=[to_proto(run_report_pb2.WrittenFile, f) for f in report.files_written],
    )


def _decision(approval: Approval) -> run_report_pb2.ReportedDecision:
    decision = approval.decision
    return to_proto(
        run_report_pb2.ReportedDecision,
        {
            "approval_id": approval.id,
            "kind": approval.kind,
            "title": approval.preview.title,
            "state": approval.state,
            "digest": approval.digest,
            "step_id": approval.step_id,
            "plan_id": approval.plan_id,
            "action": decision.action if decision else "",
            "decider": decision.decider if decision else "",
            "decide_time": decision.decide_time if decision else 0,
            "feedback": decision.feedback if decision else "",
        },
    )
