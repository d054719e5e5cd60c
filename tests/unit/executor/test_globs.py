"""Which paths an agent's file limits let through."""

import time

import pytest

from executor.tools.globs import matches


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("README.md", "*.md", True),
        ("docs/guide/a.md", "*.md", True),
        ("README.md.sh", "*.md", False),
        ("docs/a.md", "docs/*.md", True),
        ("docs/guide/a.md", "docs/*.md", False),
        ("docs/guide/a.md", "docs/**", True),
        ("docs/guide/a.md", "docs/**/*.md", True),
        ("docs/a.md", "docs/**/*.md", True),
        ("src/docs/a.md", "docs/**", False),
        ("a/b/c", "**/c", True),
        ("lib/main.dart", "/lib/*.dart", True),
        ("a.md", "?.md", True),
        ("ab.md", "?.md", False),
    ],
)
def test_patterns_name_paths(path: str, pattern: str, fits: bool) -> None:
    assert matches(path, [pattern]) is fits


def test_a_hostile_pattern_takes_no_longer_than_its_length() -> None:
    started = time.perf_counter()
    assert not matches("/".join("a" * 40 for _ in range(200)), ["**/" * 200 + "*a" * 50 + "b"])
    assert time.perf_counter() - started < 2
