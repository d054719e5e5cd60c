"""`python -m executor`: performs steps for orchestrators until it is told to stop."""

import asyncio
import sys

from pydantic import ValidationError

from executor.bootstrap import build, run
from executor.errors import StepFailed
from executor.models.script import BadScript
from executor.settings import Settings
from executor.tools.confine import hide
from rpc import failpoints, logs, tracing
from rpc.addresses import BadAddress
from rpc.metrics import MetricsServer
from rpc.settings import tell_wrong_settings


async def serve(settings: Settings) -> None:
    """Build an executor and run it."""
    hide()
    tracing.configure("executor")
    try:
        with MetricsServer(settings.metrics_addr):
            await run(await build(settings), settings)
    finally:
        await tracing.shutdown()


def main() -> int:
    """Run until a signal; with the reason on standard error, 2 for a wrong setting, 1 when it cannot start."""
    try:
        settings = Settings()
        logs.configure("executor", settings.log_level)
        failpoints.arm_for_service(settings.failpoint)
        asyncio.run(serve(settings))
    except ValidationError as error:
        return tell_wrong_settings(error)
    except (BadAddress, BadScript, StepFailed, OSError) as error:
        sys.stderr.write(f"executor: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
