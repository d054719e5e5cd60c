"""Time and identity, the two things the domain may not make for itself."""

import os
import time


def now_micros() -> int:
    """Unix microseconds."""
    return time.time_ns() // 1000


def new_id() -> str:
    """A fresh UUIDv7 (RFC 9562): ordered by the millisecond, random in 74 bits."""
    millis = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10))
    value = (
        (millis & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | (noise >> 68 & 0xFFF) << 64 | 0b10 << 62 | noise & (1 << 62) - 1
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
