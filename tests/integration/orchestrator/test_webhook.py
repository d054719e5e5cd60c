"""The webhook is told of what concerns people: signed, again until it is taken, by one id, whoever dies in between."""

import asyncio
import io
import logging
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest
import structlog

from gen.assent.v1.approval_pb2 import Approval
from gen.assent.v1.session_service_pb2 import DeleteSessionRequest
from orchestrator.store import deliveries
from orchestrator.store.database import Database
from orchestrator.streaming import webhook
from orchestrator.streaming.webhook import signature
from rpc import logs
from tests.integration.orchestrator.client import Client
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.receiver import LIMIT_SECONDS, Receiver, receiving, status
from tests.integration.orchestrator.replica import Replica, Replicas
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

SECRET = "a-secret-that-is-a-canary"
DOCS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(webhook, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(webhook, "LONGEST_PAUSE_SECONDS", 0.05)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def told_by(replicas: Replicas, url: str) -> Replica:
    return await replicas.start(webhook_url=url, webhook_secret=SECRET)


async def a_question(client: Client) -> Approval:
    session = await client.new_session()
    await client.new_plan(session.id)
    return await client.asked(session.id)


async def waiting(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM delivery"))
    finally:
        await connection.close()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what only the database tells."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def nothing_waits(database_url: str) -> None:
    async def is_so() -> bool:
        return not await waiting(database_url)

    await eventually(is_so)


async def test_what_is_asked_and_what_is_answered_is_told_and_signed(
    replicas: Replicas, receiver: Receiver, database_url: str
) -> None:
    client = (await told_by(replicas, receiver.url)).client
    approval = await a_question(client)
    [asked] = await receiver.until(1)
    await client.decide(approval, "REJECT", feedback="not now")
    [_, resolved] = await receiver.until(2)
    log = await client.events(approval.session_id)
    for heard, name in ((asked, "approval_requested"), (resolved, "approval_resolved")):
        [sequence] = [event.sequence for event in log if event.WhichOneof("payload") == name]
        assert heard.id == heard.told["id"] == f"{approval.session_id}:{sequence}"
        assert (heard.told["type"], heard.told["tenant"]) == (name, "default")
        assert heard.told["event"]["sequence"] == str(sequence)
        sent = heard.headers["assent-webhook-timestamp"]
        assert heard.headers["assent-webhook-signature"] == signature(SECRET.encode(), sent, heard.body)
    assert asked.told["event"]["approvalRequested"]["approval"]["id"] == approval.id
    assert resolved.told["event"]["approvalResolved"]["feedback"] == "not now"
    await nothing_waits(database_url)
    assert len(receiver.heard) == 2


async def test_a_body_never_holds_what_a_call_would_do_in_full(
    replicas: Replicas, receiver: Receiver, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail", '{"to": "anna", "text": "' + "x" * 5_000 + '"}')
    client = (await told_by(replicas, receiver.url)).client
    session = await client.new_session()
    await client.send(session.id)
    approval = await client.asked(session.id)
    [asked] = await receiver.until(1)
    told = asked.told["event"]["approvalRequested"]["approval"]
    assert (told["id"], told["tool"], told["digest"]) == (approval.id, "send_mail", approval.digest)
    assert "argumentsJson" not in told
    assert len(told["preview"]["text"]) <= 2_048
    assert told["preview"]["truncated"]


async def test_without_a_webhook_nothing_is_written_for_it(replica: Replica, client: Client, database_url: str) -> None:
    await client.decide(await a_question(client), "REJECT")
    assert await waiting(database_url) == 0


async def test_while_the_receiver_is_down_it_waits_and_comes_then_once(replicas: Replicas, database_url: str) -> None:
    async with receiving() as first:
        url, port = first.url, int(first.url.split(":")[2].split("/")[0])
    client = (await told_by(replicas, url)).client
    approval = await a_question(client)

    async def was_tried_often() -> bool:
        return await tries_so_far(database_url) >= 3

    await eventually(was_tried_often)
    async with receiving(port) as back:
        await back.until(1)
        await nothing_waits(database_url)
        assert back.ids == [back.heard[0].id]
        assert approval.session_id in back.ids[0]


async def tries_so_far(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval("SELECT coalesce(max(tries), 0) FROM delivery"))
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "answer",
    [status(500), status(404), status(429), b"\x00\xffgarbage\r\n\r\n", b"HTTP/1.1 2", b""],
    ids=["500", "404", "429", "garbage", "half", "nothing"],
)
async def test_whatever_is_no_yes_is_sent_again_as_the_same(
    replicas: Replicas, receiver: Receiver, database_url: str, answer: bytes
) -> None:
    receiver.answers = [answer, answer]
    client = (await told_by(replicas, receiver.url)).client
    await a_question(client)
    heard = await receiver.until(3)
    assert len({(each.id, each.body) for each in heard}) == 1
    await nothing_waits(database_url)
    assert len(receiver.heard) == 3


async def test_who_does_not_answer_is_not_waited_for_and_holds_nothing_else_up(
    replicas: Replicas, receiver: Receiver, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers = [None]
    client = (await told_by(replicas, receiver.url)).client
    await a_question(client)
    [slow] = await receiver.until(1)
    await a_question(client)
    [_, other] = await receiver.until(2)
    assert other.id != slow.id
    monkeypatch.setattr(webhook, "SEND_SECONDS", 0.05)
    receiver.answers = [None]
    third = await a_question(client)
    await receiver.until(4)
    assert [each for each in receiver.ids if each.startswith(third.session_id)] == [receiver.ids[2]] * 2


async def test_a_redirect_is_not_followed(replicas: Replicas, receiver: Receiver, database_url: str) -> None:
    async with receiving() as elsewhere:
        receiver.answers = [status(302, f"Location: {elsewhere.url}"), status(307, f"Location: {elsewhere.url}")]
        client = (await told_by(replicas, receiver.url)).client
        await a_question(client)
        await receiver.until(3)
        await nothing_waits(database_url)
        assert elsewhere.heard == []


async def test_a_receiver_that_wants_no_more_of_it_is_not_told_again(
    replicas: Replicas, receiver: Receiver, database_url: str
) -> None:
    receiver.answers = [status(410)]
    client = (await told_by(replicas, receiver.url)).client
    with as_a_process_logs() as stream:
        await a_question(client)
        await receiver.until(1)
        await nothing_waits(database_url)
    assert "the webhook was not told" in stream.getvalue()
    assert len(receiver.heard) == 1


async def test_what_was_not_taken_for_too_long_is_given_up_and_said(
    replicas: Replicas, receiver: Receiver, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "GIVE_UP_SECONDS", -1.0)
    receiver.answers = [status(503)]
    client = (await told_by(replicas, receiver.url)).client
    with as_a_process_logs() as stream:
        await a_question(client)
        await receiver.until(1)
        await nothing_waits(database_url)
    assert "the webhook was not told" in stream.getvalue()


async def test_two_replicas_send_each_once(replicas: Replicas, receiver: Receiver, database_url: str) -> None:
    first, second = await told_by(replicas, receiver.url), await told_by(replicas, receiver.url)
    asked = await asyncio.gather(*(a_question(replica.client) for replica in (first, second) for _ in range(15)))
    await asyncio.gather(*(second.client.decide(approval, "REJECT") for approval in asked))
    await receiver.until(60)
    await nothing_waits(database_url)
    assert len(receiver.heard) == len(set(receiver.ids)) == 60


async def test_who_died_after_sending_leaves_it_to_be_sent_again_by_the_same_id(
    replicas: Replicas, receiver: Receiver, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "HOLD_SECONDS", 0.3)
    receiver.answers = [None]
    first = await told_by(replicas, receiver.url)
    await a_question(first.client)
    await receiver.until(1)  # it has it, and the sender never hears so
    await first.crash()
    await told_by(replicas, receiver.url)
    one, again = await receiver.until(2)
    assert (one.id, one.body) == (again.id, again.body)
    await nothing_waits(database_url)


async def test_who_died_before_sending_leaves_it_to_be_sent(
    replicas: Replicas, receiver: Receiver, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "HOLD_SECONDS", 0.3)
    silent = await told_by(replicas, "http://127.0.0.1:9/")  # whoever it is for, it is in the database
    approval = await a_question(silent.client)
    await silent.crash()
    database = await Database.open(database_url)
    taken: list[deliveries.Delivery] = []

    async def is_taken() -> bool:
        taken.extend(await deliveries.take(database, 1, 300_000))
        return bool(taken)

    await eventually(is_taken)
    await database.close()
    await told_by(replicas, receiver.url)  # while somebody who is dead still has it
    [heard] = await receiver.until(1)
    assert heard.id == taken[0].id
    assert heard.id.startswith(approval.session_id)


async def test_what_is_erased_is_not_told(replicas: Replicas, receiver: Receiver, database_url: str) -> None:
    receiver.answers = [status(500)] * 1_000
    client = (await told_by(replicas, receiver.url)).client
    approval = await a_question(client)
    await receiver.until(1)
    await client.close(approval.session_id)
    await client.call(client.sessions.DeleteSession, DeleteSessionRequest(session_id=approval.session_id))
    await nothing_waits(database_url)


@contextmanager
def as_a_process_logs() -> Iterator[io.StringIO]:
    """The log as a process has it at `debug`, for a block."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("orchestrator", "debug", stream=stream)
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


async def test_neither_the_secret_nor_the_address_is_ever_logged(
    replicas: Replicas, receiver: Receiver, database_url: str
) -> None:
    receiver.answers = [status(500), b"garbage\r\n\r\n", b"", status(302, "Location: /elsewhere"), status(410)]
    with as_a_process_logs() as stream:
        client = (await told_by(replicas, receiver.url)).client
        await a_question(client)
        await receiver.until(5)
        await nothing_waits(database_url)
        approval = await a_question(client)
        await receiver.until(6)
        await client.decide(approval, "REJECT")
        await nothing_waits(database_url)
    said = stream.getvalue()
    assert "the webhook did not take it" in said
    assert "canary" not in said


# The receiver of the documentation


async def test_the_receiver_of_the_documentation_takes_what_is_ours_once_and_nothing_else(
    replicas: Replicas, tmp_path: Path, database_url: str
) -> None:
    [program] = re.findall(r"```python\n(import hashlib.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    async with receiving() as free:
        port = free.url.split(":")[2].split("/")[0]
    (tmp_path / "receiver.py").write_text(program.replace("8099", port))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "receiver.py",
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "ASSENT_WEBHOOK_SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        client = (await told_by(replicas, f"http://127.0.0.1:{port}/")).client
        approval = await a_question(client)
        async with asyncio.timeout(LIMIT_SECONDS):
            name, told = (await process.stdout.readline()).decode().split()
        assert (name, told.split(":")[0]) == ("approval_requested", approval.session_id)
        await nothing_waits(database_url)
        await refuses_what_is_not_ours(f"http://127.0.0.1:{port}/", told)
        await client.decide(approval, "REJECT")
        async with asyncio.timeout(LIMIT_SECONDS):
            assert (await process.stdout.readline()).decode().split()[0] == "approval_resolved"
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def refuses_what_is_not_ours(url: str, known_id: str) -> None:
    """Forged, changed and old ones are refused; one that was seen is taken, and nothing is done."""
    body, now = b'{"id": "forged", "type": "forged"}', str(int(time.time()))
    old = str(int(time.time()) - 301)
    seen = f'{{"id": "{known_id}", "type": "replayed"}}'.encode()
    async with httpx.AsyncClient(trust_env=False) as http:

        async def sent(said: bytes, timestamp: str, signed: str) -> int:
            headers = {"Assent-Webhook-Timestamp": timestamp, "Assent-Webhook-Signature": signed}
            return (await http.post(url, content=said, headers=headers)).status_code

        right = signature(SECRET.encode(), now, body)
        assert await sent(body, now, "v1=" + "0" * 64) == 401
        assert await sent(body, now, signature(b"another secret than ours", now, body)) == 401
        assert await sent(body + b" ", now, right) == 401
        assert await sent(body, str(int(now) + 1), right) == 401
        assert await sent(body, old, signature(SECRET.encode(), old, body)) == 401
        assert await sent(seen, now, signature(SECRET.encode(), now, seen)) == 204
