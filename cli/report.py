"""`assent report`: what ran, what it cost, who approved what; whole as Markdown, or short as lines."""

from rich.console import Console

from cli.client import Client
from cli.story import Line
from cli.words import consumed, one_line, plural, printable, state_of
from gen.assent.v1.run_report_pb2 import RunReport
from gen.assent.v1.run_service_pb2 import GetRunReportRequest


async def report(client: Client, run_id: str, console: Console) -> None:
    """The whole report, rendered on a terminal and as it is anywhere else."""
    text = printable((await get_report(client, run_id)).markdown)
    if console.is_terminal:
        from rich.markdown import Markdown  # a quarter of the time any command takes to start

        console.print(Markdown(text))
    else:
        console.print(text, markup=False, soft_wrap=True)


async def get_report(client: Client, run_id: str) -> RunReport:
    """The report of a run as far as it has come."""
    return (await client.call(client.runs.GetRunReport, GetRunReportRequest(run_id=run_id))).report


def in_short(report: RunReport) -> list[Line]:
    """The report in a few lines: subtasks, steps and cost, decisions."""
    run = report.run
    lines = [Line(f"Report of run {run.id}: {state_of(run, 'state')}", "title")]
    took = (run.end_time.ToDatetime() - run.start_time.ToDatetime()).total_seconds()
    lines.append(Line(f"  what ran    {consumed(report.usage)}, {took:.1f} s", ""))
    for subtask in report.subtasks:
        text = f"{state_of(subtask, 'state'):9}  {one_line(subtask.title, 60)} ({subtask.agent})"
        lines.append(Line(f"              {text}", ""))
    for number, decision in enumerate(report.decisions):
        label = "decisions" if number == 0 else ""
        who = f"{state_of(decision, 'action')} by {printable(decision.decider)}"
        lines.append(Line(f"  {label:10}  {who}: {one_line(decision.title, 70)}", ""))
    if report.files_written:
        size = sum(file.size_bytes for file in report.files_written)
        lines.append(Line(f"  files       {plural(len(report.files_written), 'file')}, {size} bytes", ""))
    return lines
