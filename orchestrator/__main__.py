"""`python -m orchestrator [serve|migrate|policy …]`: run a replica, bring the schema up to date, try a policy."""

import asyncio
import sys

from pydantic import ValidationError

from orchestrator.catalog import BadCatalog
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.settings import Settings
from rpc import failpoints, logs, memory, tracing
from rpc.addresses import BadAddress
from rpc.settings import tell_wrong_settings
from rpc.shutdown import run_until_signal

USAGE = "usage: python -m orchestrator [serve|migrate|policy FILE …]"


def main(arguments: list[str]) -> int:
    command = arguments[0] if arguments else "serve"
    if command == "policy":
        return _try_policy(arguments[1:])
    if command not in ("serve", "migrate") or len(arguments) > 1:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    logs.configure("orchestrator")
    try:
        settings = Settings()
        logs.configure("orchestrator", settings.log_level)
        if command == "migrate":
            _migrate(settings)
        else:
            tracing.configure("orchestrator")
            failpoints.arm_for_service(settings.failpoint)
            asyncio.run(_serve(settings))
    except ValidationError as error:
        return tell_wrong_settings(error)
    except (BadAddress, BadCatalog, StorageUnavailable) as error:
        sys.stderr.write(f"orchestrator: {error}\n")
        return 1
    return 0


# Each imports what it alone needs: one is waited for while the other is not even there.


def _try_policy(arguments: list[str]) -> int:
    from orchestrator.policy_cases import main as try_policy

    return try_policy(arguments)


def _migrate(settings: Settings) -> None:
    from orchestrator.store.migrations import upgrade

    upgrade(settings.database_url)


async def _serve(settings: Settings) -> None:
    from orchestrator.bootstrap import Orchestrator

    orchestrator = Orchestrator(settings)
    await orchestrator.start()
    memory.tend()
    await run_until_signal(orchestrator.stop, tracing.shutdown, tasks=orchestrator.tasks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
