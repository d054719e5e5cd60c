"""`assent grants`, `revoke`, and what `approve --remember` says: calls that a person's yes lets run again unasked."""

import re
from datetime import UTC, datetime, timedelta

from rich.console import Console

from cli.client import Client, new_request_id
from cli.screen import print_lines
from cli.story import Line
from cli.terms import left
from cli.trouble import ExitCode, Trouble
from cli.words import one_line, plural, printable
from gen.assent.v1.approval_service_pb2 import ListGrantsRequest, RevokeGrantRequest
from gen.assent.v1.grant_pb2 import Grant, Remember

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME = re.compile(r"(\d{1,7})([smhd])")


def remember(only: str = "", lifetime: str = "") -> Remember:
    """What is to be remembered. Raises Trouble for a length of time that is none."""
    said = Remember(constraint=only)
    if lifetime:
        found = _TIME.fullmatch(lifetime.strip())
        if found is None:
            raise Trouble(f"{lifetime!r} is no length of time; write it as 90s, 30m, 8h or 7d", ExitCode.USAGE)
        said.lifetime.FromTimedelta(timedelta(seconds=int(found[1]) * _UNITS[found[2]]))
    return said


async def list_grants(client: Client, session_id: str, console: Console) -> None:
    """The session's grants, newest first, those that have ended too."""
    request = ListGrantsRequest(session_id=session_id, page_size=500)
    pages = client.pages(client.approvals.ListGrants, request)
    grants = [grant async for page in pages for grant in page.grants]
    if not grants:
        console.print("no yes is remembered in this session")
    now = datetime.now(UTC)
    print_lines(console, [line for grant in grants for line in _lines(grant, now)])


async def revoke_grant(client: Client, grant_id: str, reason: str, console: Console) -> None:
    """From now on what it allowed is asked about again."""
    request = RevokeGrantRequest(grant_id=grant_id, request_id=new_request_id(), reason=reason)
    grant = (await client.call(client.approvals.RevokeGrant, request)).grant
    words = f"grant {grant.id} is revoked: calls of {printable(grant.tool)} are asked about again"
    print_lines(console, [Line(words, "ok")])


def _lines(grant: Grant, now: datetime) -> list[Line]:
    used = f"used {plural(grant.uses, 'time')}"
    head = f"{grant.id}  {printable(grant.tool)}  by {printable(grant.creator)}, {used}, {_standing(grant, now)}"
    return [Line(head), Line(f"  where {one_line(grant.constraint, 200)}", "quiet")]


def _standing(grant: Grant, now: datetime) -> str:
    if grant.HasField("revoke_time"):
        why = f": {one_line(grant.revoke_reason)}" if grant.revoke_reason else ""
        return f"revoked by {printable(grant.revoker)}{why}"
    expired = grant.HasField("end_time") or grant.expire_time.ToDatetime(UTC) <= now
    return "expired" if expired else left(grant.expire_time, now)
