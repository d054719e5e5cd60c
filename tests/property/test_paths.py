"""The orchestrator and the executor read an agent's globs alike, so that what a person approves can be carried out."""

from hypothesis import example, given
from hypothesis import strategies as st

from executor.tools.globs import matches
from executor.tools.workspace import PathRefused, split_path
from orchestrator.domain.paths import fits

names = st.text("ab.*?", min_size=0, max_size=3) | st.sampled_from(["**", "..", ".", "~", "C:", "a\\b"])
paths = st.lists(names, min_size=1, max_size=5).map("/".join)


@given(path=paths, globs=st.lists(paths, max_size=3))
@example(path="lib/main.dart", globs=["lib/**/*.dart"])
@example(path="a/../b.md", globs=["*.md"])
def test_a_path_fits_for_one_where_it_fits_for_the_other(path: str, globs: list[str]) -> None:
    assert fits(path, globs) == executor_would_write(path, globs)


def executor_would_write(path: str, globs: list[str]) -> bool:
    try:
        names = split_path(path)
    except PathRefused:
        return False
    # A path that names a directory is refused where the file is opened.
    return bool(names) and path.rsplit("/", 1)[-1] not in ("", ".") and matches("/".join(names), globs)
