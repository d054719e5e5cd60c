"""`python -m gateway`: the process, from its settings to its orderly stop."""

import asyncio
import sys

import structlog
from pydantic import ValidationError

from gateway.bootstrap import build
from gateway.settings import Settings
from rpc import logs, tracing
from rpc.addresses import BadAddress
from rpc.settings import tell_wrong_settings
from rpc.shutdown import run_until_signal

_log = structlog.get_logger("gateway")


def main() -> int:
    """Serve until a signal; with the reason on standard error, 2 for a wrong setting, 1 when it cannot start."""
    logs.configure("gateway")
    try:
        settings = Settings()
        logs.configure("gateway", settings.log_level)
        asyncio.run(_serve(settings))
    except ValidationError as error:
        return tell_wrong_settings(error)
    except BadAddress as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    tracing.configure("gateway")
    server, channel = build(settings)
    serving = asyncio.create_task(server.run_to_the_end())
    _log.info("serving", address=f"{server.address.host}:{server.port}")
    await run_until_signal(server.stop, channel.close, tracing.shutdown, tasks=(serving,))


if __name__ == "__main__":
    sys.exit(main())
