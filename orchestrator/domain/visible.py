"""Text that somebody else wrote, made fit to be decided on: nothing in it is obeyed, hidden or reordered by a screen.

What no eye would see stands as its code point, ⟦U+202E⟧, and the bracket that says so does too, so that two texts that
differ never look alike here. Letters that only resemble others are not changed: `lookalikes` names them.
"""

import re
import unicodedata

MOST_BYTES = 64 * 1024
MOST_IN_TITLE = 200
LONG_GAP = 32
MOST_MARKS = 4
NAMED_LETTERS = 2

_OPEN = 0x27E6  # ⟦
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
# Letters, marks and symbols by their category, and yet nothing is drawn: fillers, joiners, blank Braille.
_BLANK = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0})
_SELECTORS = frozenset((*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
_PLAIN = "\n\t "
_GAP = re.compile(rf"( {{{LONG_GAP},}}|\t{{{LONG_GAP},}})")
_CUT_MARKER = re.compile(r"⟦[^⟧]*\Z")


def visible(text: str) -> str:
    """The text with everything that a screen would obey or hide as code points; line feeds and tabs stay."""
    printed = text.replace("\n", "").replace("\t", "")
    if not (printed.isascii() and printed.isprintable()):
        # Each letter is looked up once, however often it stands there: a long text would hold everybody up.
        text = _piled_marks(text.translate({ord(character): _shown(character) for character in set(text)}))
    return _GAP.sub(lambda gap: f"⟦{_name(ord(gap[0][0]))} × {len(gap[0])}⟧", text) if _has_gap(text) else text


def visible_line(text: str) -> str:
    """The same on one line."""
    return visible(text).replace("\n", "⟦U+000A⟧").replace("\t", "⟦U+0009⟧")


def cut(text: str, most_bytes: int = MOST_BYTES) -> str:
    """As much of a visible text as fits, in UTF-8, and no half of anything."""
    raw = text.encode()
    if len(raw) <= most_bytes:
        return text
    return _CUT_MARKER.sub("", raw[:most_bytes].decode(errors="ignore"))


def title_of(text: str) -> str:
    """A visible text on one line, cut to the length of a title."""
    line = visible_line(text)
    return line if len(line) <= MOST_IN_TITLE else _CUT_MARKER.sub("", line[: MOST_IN_TITLE - 1]) + "…"


def lookalikes(text: str) -> str:
    """What letters outside ASCII are in a path or a command, by name: they may look like others. Empty: none are."""
    if text.isascii():
        return ""
    letters = list(dict.fromkeys(c for c in text if not c.isascii() and unicodedata.category(c)[0] in "LNM"))
    named = [f"{c} {_name(ord(c))} {unicodedata.name(c, 'unnamed')}" for c in letters[:NAMED_LETTERS]]
    more = [f"{len(letters) - NAMED_LETTERS} more"] if len(letters) > NAMED_LETTERS else []
    return ", ".join(named + more)


def _shown(character: str) -> str:
    return f"⟦{_name(ord(character))}⟧" if _is_unseen(character) else character


def _is_unseen(character: str) -> bool:
    code = ord(character)
    if code == _OPEN or code in _BLANK or code in _SELECTORS:
        return True
    return character not in _PLAIN and unicodedata.category(character) in _HIDDEN


def _name(code: int) -> str:
    return f"U+{code:04X}"


def _has_gap(text: str) -> bool:
    return " " * LONG_GAP in text or "\t" * LONG_GAP in text


def _piled_marks(text: str) -> str:
    """Marks that are piled onto one letter are drawn over the lines around it; those past a few stand apart."""
    marks = "".join(character for character in set(text) if unicodedata.category(character) in ("Mn", "Me"))
    if not marks:
        return text
    return re.sub(f"([{marks}]{{{MOST_MARKS}}})([{marks}]+)", _apart, text)


def _apart(pile: re.Match[str]) -> str:
    return pile[1] + "".join(f"⟦{_name(ord(mark))}⟧" for mark in pile[2])
