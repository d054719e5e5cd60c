"""A write is shown as what it would change: a diff that any reader of diffs understands, in bounded time."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain import differing
from orchestrator.domain.differing import FileNow, as_diff
from orchestrator.domain.records import Preview
from orchestrator.domain.visible import MOST_BYTES

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def diff(old: str | bytes | None, new: str, path: str = "a.txt") -> Preview:
    content = old.encode() if isinstance(old, str) else old
    return as_diff(Preview("Write a.txt", text=new, path=path, new_text=new), path, new, FileNow(content))


def lines(old: str | None, new: str, path: str = "a.txt") -> list[str]:
    return diff(old, new, path).text.split("\n")


def test_a_change_is_seen_with_the_lines_around_it() -> None:
    old = "".join(f"line {n}\n" for n in range(20))
    shown = diff(old, old.replace("line 9\n", "line nine\nand more\n"))
    assert shown.format == "DIFF"
    assert shown.text.split("\n") == [
        "--- a/a.txt",
        "+++ b/a.txt",
        "@@ -7,7 +7,8 @@",
        *(f" line {n}" for n in (6, 7, 8)),
        "-line 9",
        "+line nine",
        "+and more",
        *(f" line {n}" for n in (10, 11, 12)),
    ]


def test_a_new_file_is_all_added() -> None:
    assert lines(None, "x\n") == ["--- /dev/null", "+++ b/a.txt", "@@ -0,0 +1 @@", "+x"]


def test_a_file_that_is_emptied_is_all_removed() -> None:
    assert lines("x\ny\n", "") == ["--- a/a.txt", "+++ b/a.txt", "@@ -1,2 +0,0 @@", "-x", "-y"]


def test_a_write_that_changes_nothing_has_no_changes() -> None:
    assert lines("x\n", "x\n") == ["--- a/a.txt", "+++ b/a.txt"]


def test_a_line_without_its_end_says_so() -> None:
    assert lines("x", "x\n")[-3:] == ["-x", "\\ No newline at end of file", "+x"]


def test_what_is_hidden_on_either_side_is_seen() -> None:
    shown = lines("admin = \u202eno\r\n", "admin = \x1b[8myes\n", path="\u202ea")
    assert shown[:2] == ["--- a/⟦U+202E⟧a", "+++ b/⟦U+202E⟧a"]
    assert shown[-2:] == ["-admin = ⟦U+202E⟧no⟦U+000D⟧", "+admin = ⟦U+001B⟧[8myes"]


def test_a_line_that_looks_like_a_part_of_a_diff_stays_a_line() -> None:
    assert lines(None, "--- a/x\n@@ -1 +1 @@\u2028+y\n")[-2:] == ["+--- a/x", "+@@ -1 +1 @@⟦U+2028⟧+y"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00a", b"a\x00b", b"\x80"])
def test_what_is_no_text_is_not_compared(content: bytes) -> None:
    shown = diff(content, "new\n")
    assert (shown.format, shown.text) == ("", "new\n")


def test_a_large_diff_is_cut_and_says_so() -> None:
    shown = diff("".join(f"{n}\n" for n in range(20_000)), "x\n" * 20_000)
    assert shown.truncated
    assert len(shown.text.encode()) <= MOST_BYTES
    assert not diff("a\n", "b\n").truncated


def test_texts_that_have_too_little_in_common_are_one_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differing, "MOST_STEPS", 100)
    old = "same\n" + "".join(f"{n % 50}\n" for n in range(200)) + "end\n"
    new = "same\n" + "".join(f"{n % 37}\n" for n in range(200)) + "end\n"
    shown = [line for line in lines(old, new)[2:] if line[0] != " "]
    assert sum(line.startswith("@@") for line in shown) == 1
    assert "".join(line[0] for line in shown[1:]).rstrip("+").strip("-") == ""


text = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "x y\n"]), max_size=25).map("".join)
texts = st.tuples(text, st.sampled_from(["", "a", "z"])).map("".join)


@QUICK
@given(texts, texts)
def test_who_applies_the_diff_to_the_file_has_what_would_be_written(old: str, new: str) -> None:
    before, after, at, mark = re.findall(r"[^\n]*\n|[^\n]+", old), list[str](), 0, ""
    for line in lines(old, new)[2:]:
        if found := re.match(r"@@ -(\d+)(?:,(\d+))? ", line):
            begin = int(found[1]) - (found[2] != "0")
            after += before[at:begin]
            at = begin
        elif line.startswith("\\"):
            if mark != "-":
                after[-1] = after[-1].removesuffix("\n")
        else:
            mark = line[0]
            if mark in " -":
                assert before[at].removesuffix("\n") == line[1:]
                at += 1
            if mark in " +":
                after.append(line[1:] + "\n")
    assert "".join(after + before[at:]) == new


@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch here")
@QUICK
@given(old=texts, new=texts)
def test_patch_understands_it(tmp_path_factory: pytest.TempPathFactory, old: str, new: str) -> None:
    if old == new or not new:
        return  # it deletes what is empty
    file = tmp_path_factory.mktemp("patched") / "a.txt"
    file.write_text(old)
    command = ["patch", "-s", "-p1", "--posix", str(file)]
    subprocess.run(command, input=diff(old, new).text + "\n", text=True, check=True, cwd=file.parent)
    assert file.read_text() == new
