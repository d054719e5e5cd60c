"""Failpoints fire where and when they were told to, say so, and cost nothing while they are off."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from rpc import failpoints
from rpc.failpoints import Lost

ROOT = Path(__file__).parents[3]
SOURCES = [path for service in ("orchestrator", "executor") for path in sorted((ROOT / service).rglob("*.py"))]
TWO_ARRIVALS = """
from rpc import failpoints
failpoints.arm("dispatch:2:{action}")
for arrival in (1, 2):
    failpoints.hit("dispatch")
    print(arrival, flush=True)
"""


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


async def test_only_the_named_arrival_at_the_named_place_fires() -> None:
    failpoints.arm("commit.engine.after:2:lose, dispatch:1:delay:0")
    await failpoints.reach("commit.engine.before", "commit.engine.after")
    assert failpoints.fired == []
    with pytest.raises(Lost):
        await failpoints.reach("commit.engine.after")
    await failpoints.reach("commit.engine.after")
    failpoints.hit("dispatch")
    assert [(order.point, order.occurrence) for order in failpoints.fired] == [
        ("commit.engine.after", 2),
        ("dispatch", 1),
    ]
    assert failpoints.reached["commit.engine.after"] == 3


async def test_arming_again_forgets_what_was_armed_and_counts_from_nothing() -> None:
    failpoints.arm("dispatch:1:crash")
    failpoints.arm("")
    failpoints.hit("dispatch")
    assert (failpoints.on, failpoints.reached["dispatch"], failpoints.fired) == (True, 1, [])
    failpoints.disarm()
    assert (failpoints.on, failpoints.reached["dispatch"]) == (False, 0)


def test_what_dying_means_can_be_told() -> None:
    died: list[str] = []
    failpoints.arm("dispatch:1:crash", crash=died.append)
    failpoints.hit("dispatch")
    assert died == ["dispatch"]


async def test_a_delay_holds_up_its_task() -> None:
    failpoints.arm("send.start.before:1:delay:0.05")
    began = time.monotonic()
    await failpoints.reach("send.start.before")
    assert time.monotonic() - began >= 0.05


def test_what_fired_is_counted() -> None:
    labels = {"failpoint": "dispatch", "action": "delay"}
    before = REGISTRY.get_sample_value("assent_failpoints_fired_total", labels) or 0
    failpoints.arm("dispatch:1:delay:0")
    failpoints.hit("dispatch")
    assert REGISTRY.get_sample_value("assent_failpoints_fired_total", labels) == before + 1


def test_a_crash_is_a_kill_and_says_what_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_ARRIVALS.format(action="crash")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == -signal.SIGKILL
    lines = done.stdout.splitlines()
    assert lines[0] == "1"
    assert len(lines) == 2
    assert "failpoint=dispatch" in lines[1]


def test_a_pause_stops_the_process_until_it_is_continued() -> None:
    child = subprocess.Popen([sys.executable, "-c", TWO_ARRIVALS.format(action="pause")], stdout=-1, cwd=ROOT)
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    child.send_signal(signal.SIGCONT)
    said, _ = child.communicate()
    assert said.decode().splitlines()[-1] == "2"
    assert child.returncode == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("comit.engine.after:1:crash", "there is no failpoint comit.engine.after; there are"),
        ("dispatch", "must be NAME:N:ACTION"),
        ("dispatch:0:crash", "must be NAME:N:ACTION"),
        ("dispatch:first:crash", "must be NAME:N:ACTION"),
        ("dispatch:1", "the actions are"),
        ("dispatch:1:burn", "the actions are"),
        ("dispatch:1:delay:soon", "the actions are"),
        ("dispatch:1:lose", "no answer to be lost"),
        ("dispatch:1:crash,commit.engine.after:1:delay:-1", "the actions are"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        failpoints.parse(text)


def test_a_refused_name_lists_every_failpoint_with_its_meaning() -> None:
    with pytest.raises(ValueError) as refused:
        failpoints.parse("?:1:crash")
    for name, meaning in failpoints.POINTS.items():
        assert f"{name}  {meaning}" in str(refused.value)


def test_an_arrival_at_a_place_that_is_not_listed_is_a_mistake() -> None:
    failpoints.arm("")
    with pytest.raises(KeyError):
        failpoints.hit("nowhere")


def test_every_site_looks_at_the_switch_first_and_does_nothing_else_while_it_is_off() -> None:
    sites = 0
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        guarded = {call for node in ast.walk(tree) if _is_guard(node) for call in _calls(node)}
        for call in _calls(tree):
            sites += 1
            assert call in guarded, f"{path}:{call.lineno} is reached while failpoints are off"
    assert sites > 20


def _is_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "failpoints.on"


def _calls(tree: ast.AST) -> list[ast.Call]:
    """Calls of the functions that sites use."""
    names = ("failpoints.hit", "failpoints.reach", "failpoints.each", "failpoints.of_frames")
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in names]


def test_every_place_that_is_listed_has_its_site() -> None:
    text = "\n".join(path.read_text() for path in SOURCES)
    for point in failpoints.POINTS:
        place, _, moment = point.rpartition(".")
        group = place.rpartition(".")[0]
        spelled = rf'"{point}"|(each|of_frames)\("{group}", .*, "{moment}"\)|f"{group}\.{{doer}}\.{moment}"'
        assert re.search(spelled, text), point
