"""`assent policy test`: asks the orchestrator's own rules, in a process of its own; no server is needed."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TriedCall:
    """The call on the command line; no tool: the file brings its cases."""

    tool: str = ""
    arguments: str = "{}"
    agent: str = ""
    side_effect: str = ""
    labels: tuple[str, ...] = ()

    def options(self) -> list[str]:
        if not self.tool:
            return []
        said = [f"--tool={self.tool}", f"--arguments={self.arguments}", f"--agent={self.agent}"]
        said += [f"--side-effect={self.side_effect}"] if self.side_effect else []
        return said + [f"--label={label}" for label in self.labels]


def try_policy(file: Path, call: TriedCall, catalog_dir: Path | None) -> int:
    """The exit code; what there is to say has been printed."""
    command = [sys.executable, "-m", "orchestrator", "policy", *call.options()]
    command += [f"--catalog-dir={catalog_dir}"] if catalog_dir else []
    return subprocess.run([*command, "--", str(file)], check=False).returncode
