"""`python -m executor`: performs steps for orchestrators until it is told to stop."""

import asyncio
import sys

from pydantic import ValidationError

from executor.bootstrap import build, run
from executor.errors import StepFailed
from executor.models.script import BadScript
from executor.settings import Settings
from executor.tools.confine import hide
from rpc import logs, tracing
from rpc.addresses import BadAddress
from rpc.metrics import MetricsServer


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
    """Run until a signal; 1 with the reason on standard error when it cannot start."""
    try:
        settings = Settings()
        logs.configure("executor", settings.log_level)
        asyncio.run(serve(settings))
    except ValidationError as error:
        wrong = "; ".join(f"ASSENT_{'_'.join(map(str, each['loc'])).upper()} {each['msg']}" for each in error.errors())
        print(f"executor: {wrong}", file=sys.stderr)  # noqa: T201 - the reason, for whoever started it
    except (BadAddress, BadScript, StepFailed, OSError) as error:
        print(f"executor: {error}", file=sys.stderr)  # noqa: T201 - the reason, for whoever started it
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
