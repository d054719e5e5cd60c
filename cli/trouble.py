"""What may go wrong for a person at the command line: one clear text and an exit code, never a traceback."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How `assent` ends; 2 is a wrong command line, as everywhere."""

    OK = 0
    REFUSED = 1  # the server said no
    USAGE = 2
    UNREACHABLE = 3  # nobody answers at the address, or the stream was lost for good
    CANNOT_START = 4  # `up` or `demo` could not start something
    NOT_COMPLETED = 5  # the run ended FAILED or CANCELLED
    WAITING = 6  # it waits for a person, and nobody is here to answer
    INTERRUPTED = 130


class Trouble(Exception):
    """Ends the command: the text is for a person, the code for a script."""

    def __init__(self, text: str, code: ExitCode = ExitCode.REFUSED, *, reason: str = "") -> None:
        """`reason` is the ErrorReason of a refusal; empty where no service gave one."""
        super().__init__(text)
        self.code = code
        self.reason = reason


class CannotStart(Trouble):
    """Something that `up` starts cannot start; the text names it and says why."""

    def __init__(self, text: str) -> None:
        super().__init__(text, ExitCode.CANNOT_START)
