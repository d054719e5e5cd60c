"""The table of guards stays true: each is in the source, once, and its tests are there."""

import pytest

from scripts.guards import GUARDS, ROOT, Guard


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_is_where_the_table_says(guard: Guard) -> None:
    assert guard.is_found_in(ROOT)
    assert all((ROOT / test).exists() for test in guard.tests)
