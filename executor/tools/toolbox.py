"""The tools this executor offers, by name. Which agent may call which is the catalog's to say."""

from executor.tools.command import run_command
from executor.tools.files import LIST_FILES, READ_FILE, WRITE_FILE
from executor.tools.noop import NOOP, NOOP_ASK
from executor.tools.search import SEARCH_FILES
from executor.tools.tool import Tool


def built_in(command_network: bool = False) -> dict[str, Tool]:
    """The tools that come with Assent; `command_network` opens the network to commands."""
    command = run_command(command_network)
    tools = (READ_FILE, WRITE_FILE, LIST_FILES, SEARCH_FILES, command, NOOP, NOOP_ASK)
    return {tool.name: tool for tool in tools}


BUILT_IN = built_in()
