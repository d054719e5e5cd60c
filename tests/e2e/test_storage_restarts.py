"""PostgreSQL restarted under a load of commands; fifty times in `make torture`."""

from pathlib import Path

from tests.torture.restarts import restart_often


async def test_no_acknowledged_command_is_lost_or_doubled_over_restarts_of_the_database(tmp_path: Path) -> None:
    toll = await restart_often(3, tmp_path, lambda line: None)
    assert toll.restarts == 3
    assert toll.unknown, "no answer was lost: the restarts were too short to try anything"
    assert toll.acknowledged
    assert not toll.violations, toll
