"""Draws docs/state-machines.md from the transition tables; `--check` says whether it is up to date."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from orchestrator.domain.states import MACHINES, Machine  # noqa: E402  # found only once the path is set

PAGE = ROOT / "docs" / "state-machines.md"
HEAD = """# State machines

Drawn from `orchestrator/domain/states.py` by `scripts/draw_machines.py`; do not edit. Every transition is an event in
the session's log. What a state has no arrow for is refused with `WRONG_STATE`, which names the states that would do.
"""


def draw(machine: Machine) -> str:
    arrows: dict[tuple[str, str], list[str]] = {}
    for (source, trigger), to in machine.table.items():
        arrows.setdefault((source, to), []).append(trigger)
    first = next(iter(machine.states))
    lines = [f"    [*] --> {first}"]
    lines += [f"    {source} --> {to}: {' / '.join(triggers)}" for (source, to), triggers in arrows.items()]
    lines += [f"    {state} --> [*]" for state in machine.states if state in machine.terminal]
    name = machine.name[0].upper() + machine.name[1:]
    return "\n".join([f"## {name}", "", "```mermaid", "stateDiagram-v2", *lines, "```", ""])


def main() -> int:
    page = "\n".join([HEAD, *(draw(machine) for machine in MACHINES)])
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != page:
            sys.stderr.write(f"{PAGE.relative_to(ROOT)} is not what the tables say: run scripts/draw_machines.py\n")
            return 1
        return 0
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
