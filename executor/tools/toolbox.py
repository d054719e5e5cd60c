"""The tools this executor offers, by name. Which agent may call which is the catalog's to say."""

from executor.tools.command import RUN_COMMAND
from executor.tools.files import LIST_FILES, READ_FILE, WRITE_FILE
from executor.tools.noop import NOOP, NOOP_ASK
from executor.tools.search import SEARCH_FILES
from executor.tools.tool import Tool

BUILT_IN: dict[str, Tool] = {
    tool.name: tool for tool in (READ_FILE, WRITE_FILE, LIST_FILES, SEARCH_FILES, RUN_COMMAND, NOOP, NOOP_ASK)
}
