"""`assent policy test`: what is typed reaches the rules as it is, and the command ends as they say."""

import subprocess
import sys

import pytest

from orchestrator.settings import SHIPPED_CATALOG

DEFAULT = str(SHIPPED_CATALOG / "policies" / "default.yaml")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--tool", "write_file", "--arguments", '{"path": "-x y"}', "--agent", "coder"], 0, '{"path": "-x y"}'),
        (["--agent", "coder"], 2, "goes with --tool"),
        ([], 2, "say with --tool which call to try"),
    ],
)
def test_the_command_ends_as_the_rules_say(arguments: list[str], code: int, told: str) -> None:
    command = [sys.executable, "-m", "cli", "policy", "test", DEFAULT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, told in done.stdout + done.stderr) == (code, True), done.stderr
