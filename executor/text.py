"""Text as others may safely store it. What a text means is decided elsewhere."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """The text without NUL and lone surrogates, which neither protobuf nor PostgreSQL can hold."""
    if "\x00" in text:
        text = text.replace("\x00", _REPLACEMENT)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass").decode(errors="replace")
    return text


def pieces(text: str, limit: int) -> list[str]:
    """The text cut into pieces of at most `limit` UTF-8 bytes, never within a character."""
    if len(text) * 4 <= limit:
        return [text] if text else []
    step = max(1, limit // 4)
    return [text[start : start + step] for start in range(0, len(text), step)]
