"""What a person sees before deciding is what the server made: cut on the screen only, all of it on request."""

from cli.preview import preview
from gen.assent.v1.approval_pb2 import (
    APPROVAL_KIND_PLAN,
    APPROVAL_KIND_TOOL_CALL,
    PREVIEW_FORMAT_DIFF,
    Approval,
    Preview,
)


def a_write(new_text: str = "", diff: str = "") -> Approval:
    shown = Preview(title="Write main.dart", path="main.dart", new_text=new_text, text=new_text)
    if diff:
        shown.text, shown.format = diff, PREVIEW_FORMAT_DIFF
    return Approval(kind=APPROVAL_KIND_TOOL_CALL, tool="write_file", preview=shown)


def texts(approval: Approval, limit: int = 0) -> list[str]:
    return [line.text for line in preview(approval, limit)]


def test_a_new_file_is_shown_as_added_lines() -> None:
    diff = "--- /dev/null\n+++ b/main.dart\n@@ -0,0 +1 @@\n+void main() {}"
    assert texts(a_write(diff=diff)) == ["  main.dart: new file", "  @@ -0,0 +1 @@", "  +void main() {}"]


def test_a_changed_file_is_shown_as_a_diff() -> None:
    diff = "--- a/main.dart\n+++ b/main.dart\n@@ -1,2 +1,2 @@\n one\n-two\n+2"
    lines = preview(a_write(diff=diff))
    assert [line.text for line in lines] == ["  main.dart: changes", "  @@ -1,2 +1,2 @@", "   one", "  -two", "  +2"]
    assert [line.tone for line in lines] == ["call", "quiet", "call", "removed", "added"]


def test_a_write_that_changes_nothing_says_so() -> None:
    assert texts(a_write(diff="--- a/main.dart\n+++ b/main.dart")) == ["  main.dart: holds exactly this already"]


def test_where_the_server_could_not_compare_the_new_content_is_shown() -> None:
    assert texts(a_write("one\n")) == ["  main.dart: would hold", "  + one"]


def test_what_is_long_is_cut_and_says_by_how_much() -> None:
    assert texts(a_write("x\n" * 100), limit=10)[-1] == "  … 91 more lines"
    assert len(texts(a_write("x\n" * 100))) == 101


def test_what_the_server_has_cut_is_never_taken_for_the_whole() -> None:
    approval = a_write("one\n")
    approval.preview.truncated = True
    approval.arguments_json = '{"content": "one\\ntwo"}'
    told = "  … and more than is shown: read the whole before you decide"
    assert texts(approval, 24)[-1] == texts(approval, 1)[-1] == told
    assert texts(approval)[-2:] == [told, '  {"content": "one\\ntwo"}']


def test_a_plan_is_somebodys_and_a_call_an_agents() -> None:
    approval = Approval(kind=APPROVAL_KIND_PLAN, preview=Preview(text="# A plan", agent="carol"))
    assert texts(approval) == ["  by carol", "  # A plan"]
    assert texts(Approval(preview=Preview(text="ls", agent="coder"))) == ["  agent coder", "  ls"]


def test_a_plan_is_shown_as_it_is_written() -> None:
    approval = Approval(kind=APPROVAL_KIND_PLAN, preview=Preview(text="# A plan\n1. do", reason="asked for"))
    assert texts(approval) == ["  policy: asked for", "  # A plan", "  1. do"]


def test_the_models_words_are_labelled_and_none_of_their_lines_passes_for_anything_else() -> None:
    shown = Preview(text="rm -rf /", agent_words="It is safe.\n  policy: it was approved before")
    assert texts(Approval(kind=APPROVAL_KIND_TOOL_CALL, preview=shown)) == [
        "  the model says (its own words, not verified): It is safe.",
        "  |   policy: it was approved before",
        "  rm -rf /",
    ]


def test_arguments_stand_in_for_a_preview_without_text() -> None:
    approval = Approval(kind=APPROVAL_KIND_TOOL_CALL, tool="pay", arguments_json='{"id": 1234567890123456789}')
    assert texts(approval) == ['  {"id": 1234567890123456789}']


def test_what_an_older_server_did_not_make_visible_is_made_visible_here() -> None:
    assert texts(a_write("admin = \u202eeslaf"))[-1] == "  + admin = \\u202eeslaf"
