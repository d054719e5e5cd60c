"""`python -m gateway`: the process, from its settings to its orderly stop."""

import asyncio
import sys

import structlog

from gateway.bootstrap import build
from gateway.settings import Settings
from rpc import logs, tracing
from rpc.addresses import BadAddress
from rpc.shutdown import run_until_signal

_log = structlog.get_logger("gateway")


async def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = Settings()
    logs.configure("gateway", settings.log_level)
    tracing.configure("gateway")
    parts = build(settings)
    serving = asyncio.create_task(parts.server.run_to_the_end())
    _log.info("serving", address=str(parts.server.address), port=parts.server.port)

    async def served() -> None:
        await asyncio.wait({serving})

    await run_until_signal(parts.server.stop, served, parts.channel.close, tasks=(serving,))
    tracing.shutdown()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except BadAddress as error:
        sys.exit(f"gateway: {error}")
