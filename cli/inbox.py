"""`assent approvals`, `approve`, `reject`, `decide`: deciding without following, from any machine, at any time."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rich.console import Console

from cli.answering import NoAnswer, as_json
from cli.client import Client
from cli.decide import ACTIONS, Answer, ask_for_answer, decide
from cli.preview import preview, question, title
from cli.screen import print_lines
from cli.story import Line
from cli.terminal import ask, has_person
from cli.terms import in_short, terms_of, votes_of
from cli.trouble import ExitCode, Trouble
from cli.words import one_line, printable, state_of, value_name
from gen.assent.v1.approval_pb2 import (
    APPROVAL_KIND_PLAN,
    APPROVAL_KIND_QUESTION,
    APPROVAL_STATE_PENDING,
    DECISION_ACTION_RESPOND,
    Approval,
)
from gen.assent.v1.approval_service_pb2 import (
    GetApprovalRequest,
    ListApprovalsRequest,
    WatchApprovalsRequest,
    WatchApprovalsResponse,
)


@dataclass(frozen=True)
class Wanted:
    """Which approvals: of a session, of calls of a tool, those that who asks may decide."""

    session_id: str = ""
    tool: str = ""
    mine: bool = False


ANY = Wanted()


async def list_approvals(client: Client, console: Console, wanted: Wanted = ANY) -> None:
    """What waits for a decision, newest first, one line each."""
    approvals = await pending(client, wanted)
    if not approvals:
        console.print("nothing waits for a decision")
        return
    for approval in approvals:
        _print(console, _line(approval))
    if console.is_terminal:
        console.print(
            "See one: assent approvals ID. Decide: assent approve ID, assent reject ID, assent decide ID ANSWER.",
            style="dim",
        )


async def watch_approvals(client: Client, console: Console, wanted: Wanted = ANY) -> None:
    """The same, oldest first, then what is asked and what is answered, anywhere, until Ctrl-C."""
    inbox = _Inbox(console)
    request = WatchApprovalsRequest(session_id=wanted.session_id, tool=wanted.tool, decidable=wanted.mine)
    async for response in client.watch_approvals(request, lost=inbox.lost):
        inbox.take(response)


class _Inbox:
    """What has been printed as pending; a stream that begins again says only what has changed meanwhile."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pending: dict[str, Approval] = {}
        self._snapshot: dict[str, Approval] | None = {}  # while one is coming

    def lost(self, why: str) -> None:
        _print(self._console, f"the stream was lost ({one_line(why, 60)}); looking again", "yellow")
        self._snapshot = {}

    def take(self, response: WatchApprovalsResponse) -> None:
        if self._snapshot is not None:
            self._snapshot |= {approval.id: approval for approval in response.approvals}
            if response.snapshot_complete:
                self._catch_up(self._snapshot)
                self._snapshot = None
        for event in response.events:
            match event.WhichOneof("payload"):
                case "approval_requested":
                    self._asked(event.approval_requested.approval)
                case "vote_recorded":
                    vote = event.vote_recorded
                    said = f"{state_of(vote, 'action')} by {vote.voter}, {vote.votes} of {vote.needed}"
                    self._heard(vote.approval_id, said)
                case "approval_reminder":
                    self._heard(event.approval_reminder.approval_id, "still waits")
                case "approval_resolved":
                    resolved = event.approval_resolved
                    action = state_of(resolved, "action" if resolved.action else "state")
                    self._answered(
                        resolved.approval_id, f"{action} by {resolved.decider}" if resolved.decider else action
                    )

    def _catch_up(self, now: dict[str, Approval]) -> None:
        for approval_id in self._pending.keys() - now.keys():
            self._answered(approval_id, "no longer pending")
        for approval in now.values():
            if approval.id not in self._pending:
                self._asked(approval)
        if not now:
            _print(self._console, "nothing waits for a decision", "dim")

    def _asked(self, approval: Approval) -> None:
        self._pending[approval.id] = approval
        _print(self._console, _line(approval))

    def _answered(self, approval_id: str, how: str) -> None:
        self._heard(approval_id, how, "green")
        self._pending.pop(approval_id, None)

    def _heard(self, approval_id: str, what: str, style: str = "") -> None:
        if (approval := self._pending.get(approval_id)) is not None:
            _print(self._console, f"{approval_id}  {state_of(approval, 'kind'):9}  {what}: {title(approval)}", style)


async def pending(client: Client, wanted: Wanted = ANY) -> list[Approval]:
    """Every pending approval that is wanted."""
    request = ListApprovalsRequest(
        state=APPROVAL_STATE_PENDING,
        session_id=wanted.session_id,
        tool=wanted.tool,
        decidable=wanted.mine,
        page_size=500,
    )
    pages = client.pages(client.approvals.ListApprovals, request)
    return [approval async for page in pages for approval in page.approvals]


async def show_approval(client: Client, approval_id: str, console: Console) -> None:
    """One approval in full: exactly what would happen, and its digest."""
    approval = await get_approval(client, approval_id)
    state = state_of(approval, "state")
    lines = [question(approval), *preview(approval, limit=0)]
    actions = ", ".join(value_name(approval, "allowed_actions", each) for each in approval.allowed_actions)
    takes = f"; answers it takes: {actions}" if state == "PENDING" else ""
    lines.append(Line(f"  {state}{takes}", "quiet"))
    if state == "PENDING":
        lines += terms_of(approval, datetime.now(UTC))
    if approval.HasField("decision"):
        decision = approval.decision
        lines.append(Line(f"  {state_of(decision, 'action')} by {decision.decider}", "quiet"))
    if approval.resolve_reason:
        lines.append(Line(f"  {printable(approval.resolver)}: {one_line(approval.resolve_reason)}", "quiet"))
    lines.append(Line(f"  session {approval.session_id}  digest {approval.digest}", "quiet"))
    if state == "PENDING" and approval.kind == APPROVAL_KIND_PLAN:
        lines.append(Line(f"  edit it with: assent plan edit {approval.plan_id}", "quiet"))
    print_lines(console, lines)


async def answer_approval(
    client: Client, approval_id: str, answer: Answer, console: Console, *, digest: str = "", words: str = ""
) -> None:
    """Decide one approval. With `digest`, only if it is still about exactly that; `words` are an answer as typed."""
    approval = await get_approval(client, approval_id)
    if digest and digest != approval.digest:
        raise Trouble(f"approval {approval_id} is about {approval.digest}, not {digest}: look at it again")
    if approval.state == APPROVAL_STATE_PENDING:
        print_lines(console, [question(approval), *preview(approval), *terms_of(approval, datetime.now(UTC))])
        answer = await _worded(approval, answer, words, console)
    decided = await decide(client, approval, answer)
    said = f"{state_of(decided.decision, 'action')} by {decided.decision.decider}"
    if decided.state == APPROVAL_STATE_PENDING:
        said = f"your vote is counted: {votes_of(decided)}; the rest is for others to say"
    follow = f"follow with: assent watch {approval.session_id}"
    print_lines(console, [Line(f"  {said}", "ok"), Line(f"  {follow}", "quiet")])


async def _worded(approval: Approval, answer: Answer, words: str, console: Console) -> Answer:
    """The answer to a question as its schema wants it; who gave none is asked for it at a terminal."""
    if answer.action != DECISION_ACTION_RESPOND or answer.response_json:
        return answer
    if words:
        try:
            return replace(answer, response_json=as_json(words, approval))
        except NoAnswer as fault:
            raise Trouble(f"not decided: {fault}", ExitCode.USAGE) from None
    if approval.kind != APPROVAL_KIND_QUESTION or not has_person():
        return answer
    return await ask_for_answer(approval, ask, lambda lines: print_lines(console, lines))


def answer_of(action: str, feedback: str, arguments: bytes, response: bytes) -> Answer:
    """The answer that the words of a command line make. Raises Trouble for an action that there is not."""
    chosen = ACTIONS.get(action.upper().replace("-", "_"))
    if chosen is None:
        raise Trouble(f"no answer is called {action}; there are: {', '.join(ACTIONS).lower()}", ExitCode.USAGE)
    try:
        return Answer(chosen, feedback, response.decode(), arguments.decode())
    except UnicodeDecodeError:
        raise Trouble("the file is not UTF-8 text", ExitCode.USAGE) from None


async def get_approval(client: Client, approval_id: str) -> Approval:
    """The approval as it is now."""
    request = GetApprovalRequest(approval_id=approval_id)
    return (await client.call(client.approvals.GetApproval, request)).approval


def _line(approval: Approval) -> str:
    short = in_short(approval, datetime.now(UTC))
    return f"{approval.id}  {state_of(approval, 'kind'):9}  {_age(approval):>5}  {title(approval)}{short}"


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, markup=False, soft_wrap=True)


def _age(approval: Approval) -> str:
    minutes = (datetime.now(UTC) - approval.create_time.ToDatetime(UTC)).total_seconds() / 60
    if minutes < 60:
        return f"{minutes:.0f}m"
    return f"{minutes / 60:.0f}h" if minutes < 48 * 60 else f"{minutes / 1440:.0f}d"
