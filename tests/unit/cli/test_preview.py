"""What a person sees before deciding: the whole of it on request, as a diff where the old file is at hand."""

from pathlib import Path

from cli.preview import old_text_in, preview
from gen.assent.v1.approval_pb2 import APPROVAL_KIND_PLAN, APPROVAL_KIND_TOOL_CALL, Approval, Preview
from tests.unit.cli.demo_acts import WRITE_APPROVAL


def a_write(new_text: str, path: str = "main.dart") -> Approval:
    shown = Preview(title=f"write_file {path}", path=path, new_text=new_text)
    return Approval(kind=APPROVAL_KIND_TOOL_CALL, tool="write_file", preview=shown)


def texts(approval: Approval, workspace: Path, limit: int = 0) -> list[str]:
    return [line.text for line in preview(approval, old_text_in(workspace), limit)]


def test_a_new_file_is_shown_as_added_lines(tmp_path: Path) -> None:
    assert texts(WRITE_APPROVAL, tmp_path) == [
        "  agent coder",
        "  main.dart: new file, 15 bytes",
        "  + void main() {}",
    ]


def test_a_changed_file_is_shown_as_a_diff(tmp_path: Path) -> None:
    (tmp_path / "main.dart").write_text("one\ntwo\nthree\n")
    lines = texts(a_write("one\n2\nthree\n"), tmp_path)
    assert lines == ["  main.dart: 12 bytes", "  @@ -1,3 +1,3 @@", "   one", "  -two", "  +2", "   three"]


def test_without_the_old_file_the_new_content_is_shown() -> None:
    lines = [line.text for line in preview(a_write("one\n"))]
    assert lines == ["  main.dart: would hold, 4 bytes", "  + one"]


def test_a_path_out_of_the_workspace_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "link").symlink_to(tmp_path / "secret")
    for path in ("../secret", str(tmp_path / "secret"), "link"):
        assert old_text_in(workspace)(path) is None


def test_what_is_long_is_cut_and_says_by_how_much(tmp_path: Path) -> None:
    lines = texts(a_write("x\n" * 100), tmp_path, limit=10)
    assert lines[-1] == "  … 91 more lines"
    assert len(texts(a_write("x\n" * 100), tmp_path)) == 101


def test_a_plan_is_shown_as_it_is_written(tmp_path: Path) -> None:
    approval = Approval(kind=APPROVAL_KIND_PLAN, preview=Preview(text="# A plan\n1. do", reason="asked for"))
    assert texts(approval, tmp_path) == ["  policy: asked for", "  # A plan", "  1. do"]


def test_arguments_stand_in_for_a_preview_without_text(tmp_path: Path) -> None:
    approval = Approval(kind=APPROVAL_KIND_TOOL_CALL, tool="pay", arguments_json='{"id": 1234567890123456789}')
    assert texts(approval, tmp_path) == ['  {"id": 1234567890123456789}']


def test_a_hidden_letter_in_a_file_is_seen(tmp_path: Path) -> None:
    assert texts(a_write("admin = \u202eeslaf"), tmp_path)[-1] == "  + admin = \\u202eeslaf"
