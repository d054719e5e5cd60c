"""What a service has made by its start is never looked at again, and what it makes later rarely."""

import gc
import subprocess
import sys

TRIED = "import gc, rpc.memory as memory; memory.tend(); print(gc.get_freeze_count() > 1000, gc.get_threshold())"


def test_what_the_start_made_is_left_alone() -> None:
    said = subprocess.run([sys.executable, "-c", TRIED], capture_output=True, text=True, check=True).stdout
    assert said == "True (20000, 20, 20)\n"
    assert gc.get_freeze_count() == 0  # of this process
