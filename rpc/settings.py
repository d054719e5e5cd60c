"""How a process says which of its settings is wrong, and how it ends then. What they are is its own business."""

import sys

from pydantic import ValidationError

WRONG_SETTING = 2
"""The exit status of a process that was started with a setting it cannot use."""


def tell_wrong_settings(error: ValidationError) -> int:
    """One line a variable on standard error; the exit status."""
    for problem in error.errors():
        name = "_".join(map(str, problem["loc"])).upper()
        sys.stderr.write(f"ASSENT_{name}: {problem['msg'].removeprefix('Value error, ')}\n")
    return WRONG_SETTING
