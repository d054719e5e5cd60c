"""What a person is shown is what will run: hostile texts are seen for what they are, nothing is left out silently."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain import visible as visibility
from orchestrator.domain.records import ExpectedArtifact, Preview, ToolCall
from orchestrator.domain.showing import MOST_WORDS_BYTES, call_preview, indented, presentable
from orchestrator.domain.visible import MOST_BYTES, MOST_IN_TITLE, cut, title_of, visible, visible_line
from tests.unit.domain.build import Play, call, draft, failure, task

QUICK = settings(deadline=None, derandomize=True, database=None)
HOSTILE = {
    "a colour of a terminal": ("\x1b[8mrm -rf /\x1b[0m", "⟦U+001B⟧[8mrm -rf /⟦U+001B⟧[0m"),
    "a title of a terminal's window": ("\x1b]0;safe\x07ls", "⟦U+001B⟧]0;safe⟦U+0007⟧ls"),
    "a C1 control that begins a sequence": ("\x9b2Jls", "⟦U+009B⟧2Jls"),
    "a return to the beginning of the line": ("rm -rf /\rls      ", "rm -rf /⟦U+000D⟧ls      "),
    "lines that end as elsewhere": ("a\r\nb", "a⟦U+000D⟧\nb"),
    "a backspace": ("rm\x08\x08ls", "rm⟦U+0008⟧⟦U+0008⟧ls"),
    "a form feed and a vertical tab": ("a\x0cb\x0bc", "a⟦U+000C⟧b⟦U+000B⟧c"),
    "a line end of Unicode": ("# \u2028rm", "# ⟦U+2028⟧rm"),
    "a next-line control": ("# \x85rm", "# ⟦U+0085⟧rm"),
    "reversed text": ("/*\u202e } \u2066if (admin)\u2069 \u2066 begin */", None),
    "an override": ("a\u202egpj.exe", "a⟦U+202E⟧gpj.exe"),
    "a zero-width space": ("ad\u200bmin", "ad⟦U+200B⟧min"),
    "a joiner": ("ad\u200dmin", "ad⟦U+200D⟧min"),
    "a byte order mark": ("\ufeffls", "⟦U+FEFF⟧ls"),
    "a soft hyphen": ("ad\u00admin", "ad⟦U+00AD⟧min"),
    "letters of the tag block": ("ok\U000e0069\U000e0067", "ok⟦U+E0069⟧⟦U+E0067⟧"),
    "variation selectors": ("a\ufe0fb\U000e0100", "a⟦U+FE0F⟧b⟦U+E0100⟧"),
    "a Hangul filler": ("a\u3164b", "a⟦U+3164⟧b"),
    "a blank of Braille": ("a\u2800b", "a⟦U+2800⟧b"),
    "a space that does not break": ("rm\u00a0-rf", "rm⟦U+00A0⟧-rf"),
    "a letter of private use": ("\ue000", "⟦U+E000⟧"),
    "a code that is not assigned": ("\U0003fffe", "⟦U+3FFFE⟧"),
    "NUL": ("a\x00b", "a⟦U+0000⟧b"),
    "half of a pair": ("a\ud800b", "a⟦U+D800⟧b"),
    "marks piled onto a letter": ("e" + "\u0301" * 6, "e" + "\u0301" * 4 + "⟦U+0301⟧⟦U+0301⟧"),
    "what pushes the rest off the screen": ("ls" + " " * 500 + "; rm", "ls⟦U+0020 × 500⟧; rm"),
    "the same with tabs": ("ls" + "\t" * 40 + "; rm", "ls⟦U+0009 × 40⟧; rm"),
    "what looks as if it were ours": ("⟦U+202E⟧", "⟦U+27E6⟧U+202E⟧"),
    "a wide space": ("a\u3000b", "a⟦U+3000⟧b"),
}


def has_nothing_hidden(text: str) -> bool:
    return all(c.isprintable() or c in "\n\t" for c in text)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_seen_for_what_it_is(name: str) -> None:
    text, shown = HOSTILE[name]
    seen = visible(text)
    assert has_nothing_hidden(seen)
    assert seen != text
    if shown is not None:
        assert seen == shown


@pytest.mark.parametrize(
    "text",
    ["", "plain", "two\nlines\tand a tab", "Füße, naïve, Ελλάδα, 日本語, עברית, हिन्दी", "🚀 → ✓ € “x”", "    indented"],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_a_long_text_costs_a_look_for_each_of_its_letters_and_not_for_each_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []
    is_unseen = visibility._is_unseen

    def noted(letter: str) -> bool:
        looks.append(letter)
        return is_unseen(letter)

    monkeypatch.setattr(visibility, "_is_unseen", noted)
    assert visible("щи да каша\u202e " * 10_000) == "щи да каша⟦U+202E⟧ " * 10_000
    assert sorted(looks) == sorted(set("щи да каша\u202e"))


@QUICK
@given(st.text(alphabet=st.characters(), max_size=60), st.text(alphabet=st.characters(), max_size=60))
def test_two_texts_that_differ_never_look_alike(one: str, other: str) -> None:
    assert (visible(one) == visible(other)) == (one == other)
    assert "\n" not in visible_line(one)
    assert has_nothing_hidden(visible(one))


@QUICK
@given(st.text(alphabet="a \t\u202e⟦×U+0", max_size=80), st.text(alphabet="a \t\u202e⟦×U+0", max_size=80))
def test_marks_of_ours_cannot_be_forged(one: str, other: str) -> None:
    assert (visible(one) == visible(other)) == (one == other)


@QUICK
@given(st.text(max_size=80), st.integers(min_value=0, max_value=100))
def test_what_is_cut_is_a_beginning_and_holds_no_half_of_a_mark(text: str, most: int) -> None:
    seen = visible(text)
    kept = cut(seen, most)
    assert seen.startswith(kept)
    assert len(kept.encode()) <= most or kept == seen
    assert kept.count("⟦") == kept.count("⟧") or "⟧" in text


def asked(tool: str, arguments: str, words: str = "") -> Preview:
    play = Play()
    play.say(agent="coder")
    play.reply(words, ToolCall("c1", tool, arguments))
    [approval] = play.pending
    return approval.preview


# Commands


def command(**arguments: Any) -> Preview:
    return asked("run_command", json.dumps(arguments))


def test_a_plain_command_is_its_line() -> None:
    shown = command(command="flutter create .")
    assert (shown.title, shown.text, shown.format) == ("Run: flutter create .", "flutter create .", "COMMAND")


def test_arguments_of_a_command_are_quoted_as_a_shell_would_need_it() -> None:
    assert command(command=["rm", "-rf", "a b", "$HOME"]).text == "rm -rf 'a b' '$HOME'"


def test_what_else_a_command_is_given_is_seen() -> None:
    assert command(command="make", cwd="infra", env={"KEY": "1"}, timeout_seconds=5).text.split("\n") == [
        "$ make",
        '  "cwd": "infra"',
        '  "env": {"KEY":"1"}',
        '  "timeout_seconds": 5',
    ]


def test_no_line_of_a_command_can_pose_as_one_of_its_other_arguments() -> None:
    assert command(command='make\n  "cwd": "safe"', cwd="infra").text.split("\n") == [
        "$ make",
        '>   "cwd": "safe"',
        '  "cwd": "infra"',
    ]
    assert command(command="$ ls").text == "$ $ ls"


def test_a_commands_hidden_lines_are_seen_in_its_title_too() -> None:
    assert command(command="ls\nrm -rf /").title == "Run: ls⟦U+000A⟧rm -rf /"
    assert command(command="ls # \u202e").title == "Run: ls # ⟦U+202E⟧"


def test_escapes_in_json_are_shown_as_the_letters_they_are() -> None:
    assert asked("run_command", r'{"command": "\u0072m \u001b[8m"}').text == "rm ⟦U+001B⟧[8m"


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800", r"\udc00\ud800"])
def test_what_no_reader_reads_alike_is_shown_as_it_was_written(escape: str) -> None:
    arguments = '{"command": "ls' + escape + '"}'
    play = Play()
    play.say(agent="coder")
    play.reply("", ToolCall("c1", "run_command", arguments))
    assert play.pending == []  # it is not even asked about
    shown = call_preview(play.calls[0], "", "")
    assert (shown.title, shown.text) == ("Call run_command", arguments)


# Files


def test_a_write_is_shown_as_what_the_file_will_hold() -> None:
    shown = asked("write_file", json.dumps({"path": "a.py", "content": "if x:\n\ty = '\u202e'\n"}))
    assert (shown.title, shown.path) == ("Write a.py", "a.py")
    assert shown.text == shown.new_text == "if x:\n\ty = '⟦U+202E⟧'\n"


def test_a_write_with_more_to_it_is_shown_as_its_arguments() -> None:
    arguments = json.dumps({"path": "a.py", "content": "x", "mode": "0777"})
    shown = asked("write_file", arguments)
    assert (shown.path, shown.text, shown.format) == ("", arguments, "JSON")


def test_letters_that_look_like_others_are_named() -> None:
    shown = asked("write_file", json.dumps({"path": "b\u0430nk.py", "content": ""}))
    assert shown.title == "[letters outside ASCII: \u0430 U+0430 CYRILLIC SMALL LETTER A] Write b\u0430nk.py"
    many = command(command="\u0440\u0443\u0442\u04bb\u043en").title
    assert many.startswith("[letters outside ASCII: \u0440 U+0440 CYRILLIC SMALL LETTER ER, ")
    assert "3 more] Run: " in many


def test_a_path_cannot_hide_its_end_in_the_title() -> None:
    assert asked("write_file", json.dumps({"path": "a\n\u202eb", "content": ""})).path == "a⟦U+000A⟧⟦U+202E⟧b"


# JSON

NUMBERS = (
    '{"id":1234567890123456789012,"rate":1.10,"tiny":1e-7,"list":[1,{},[]],"text":"a, b: {c} \\u0061 \\"q\\" \\\\"}'
)


def test_json_is_laid_out_without_a_change_to_its_values() -> None:
    assert indented(NUMBERS).split("\n") == [
        "{",
        '  "id": 1234567890123456789012,',
        '  "rate": 1.10,',
        '  "tiny": 1e-7,',
        '  "list": [',
        "    1,",
        "    {},",
        "    []",
        "  ],",
        '  "text": "a, b: {c} \\u0061 \\"q\\" \\\\"',
        "}",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
    max_leaves=30,
)


@QUICK
@given(st.dictionaries(st.text(max_size=9), JSON, max_size=5), st.booleans(), st.sampled_from([None, 0, 3]))
def test_layout_changes_nothing_but_space_between_values(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    shown = indented(text)
    parts = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]')
    assert parts.findall(shown) == parts.findall(text)


def test_deep_json_does_not_grow_by_its_indentation() -> None:
    deep = "[" * 60 + ",".join(["1"] * 10_000) + "]" * 60
    assert len(indented('{"a":' + deep + "}")) < 30_000


# The model's words, and bounds


def test_the_models_own_words_stand_apart_from_everything_else() -> None:
    shown = asked("run_command", '{"command": "ls"}', words="The policy allows this. \x1b[2J Approve.")
    assert shown.agent_words == "The policy allows this. ⟦U+001B⟧[2J Approve."
    assert "Approve" not in shown.text + shown.title + shown.reason


def test_a_call_asked_about_without_a_word_has_none() -> None:
    assert asked("run_command", '{"command": "ls"}').agent_words == ""


@pytest.mark.parametrize("name", ["text", "new_text", "agent_words", "reason"])
@pytest.mark.parametrize("text", ["x" * 70_000, "\u202e" * 9_000, " " * 70_000 + "rm", "é" * 40_000])
def test_what_is_too_long_is_cut_and_says_so(name: str, text: str) -> None:
    shown = presentable(replace(Preview("title"), **dict[str, Any]({name: text})))
    limit = MOST_WORDS_BYTES if name in ("agent_words", "reason") else MOST_BYTES
    kept = getattr(shown, name)
    assert len(kept.encode()) <= limit
    assert shown.truncated == (kept != visible(text))


def test_a_gap_that_is_longer_than_all_that_is_shown_does_not_hide_what_follows() -> None:
    assert presentable(Preview("title", text=" " * 100_000 + "rm")).text == "⟦U+0020 × 100000⟧rm"


def test_what_fits_is_not_called_cut() -> None:
    assert not presentable(Preview("title", text="x" * MOST_BYTES)).truncated


def test_a_title_is_one_line_of_bounded_length() -> None:
    title = title_of("a\n" + "\u202e" * 400)
    assert len(title) <= MOST_IN_TITLE
    assert title.endswith("⟧…")


def test_a_title_in_a_plan_cannot_pose_as_another_subtask() -> None:
    play = Play()
    forged = replace(
        task("a"),
        title="Look\n2. **Nothing else** [b], by ask",
        instructions="x\u2028\r2. **y**\nGates: review.",
        artifacts=(ExpectedArtifact("f", schema_json='{\n"title": "Gates: review."}'),),
    )
    play.submit(replace(draft(forged), summary="Fine.\n\n1. **Look** [a], by ask"))
    lines = play.pending[0].preview.text.split("\n")
    assert lines[2:5] == ["> Fine.", "> ", "> 1. **Look** [a], by ask"]
    assert lines[6:10] == [
        "1. **Look ↵ 2. **Nothing else** [b], by ask** [a], by coder",
        "   > x⟦U+2028⟧⟦U+000D⟧2. **y**",
        "   > Gates: review.",
        '   Leaves f, by the JSON Schema { ↵ "title": "Gates: review."}.',
    ]


def test_a_question_cannot_pose_as_its_options() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("ask_user", question="Which?\n1. keep it", options=["delete it", "keep it\n3. both"]))
    assert play.pending[0].preview.text.split("\n") == [
        "Which?",
        "> 1. keep it",
        "1. delete it",
        "2. keep it ↵ 3. both",
    ]


def test_what_a_failure_says_is_made_visible() -> None:
    play = Play()
    play.say(agent="coder")
    play.outcome("FAILED", failure=failure(message="\x1b[2Jall is well"))
    assert play.pending[0].preview.text == "⟦U+001B⟧[2Jall is well"
