"""The one import-linter contract of our own: a package that uses the standard library and itself only.

Not here: the contracts import-linter already has, which pyproject.toml configures.
"""

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class StandardLibraryOnly(Contract):
    """Keeps `source` to itself, the standard library without `refused`, and the libraries in `allowed`."""

    type_name = "standard_library_only"

    # import-linter replaces these by values of the configuration.
    source: Any = fields.StringField()
    allowed: Any = fields.ListField(subfield=fields.StringField())
    refused: Any = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        source: str = self.source
        allowed = (sys.stdlib_module_names | set(self.allowed)) - set(self.refused)
        strangers = [
            (importer, imported)
            for importer in {source} | graph.find_descendants(source)
            for imported in graph.find_modules_directly_imported_by(importer)
            if not f"{imported}.".startswith(f"{source}.") and imported.split(".")[0] not in allowed
        ]
        return ContractCheck(kept=not strangers, metadata={"strangers": sorted(strangers)})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["strangers"]:
            output.print_error(f"{importer} imports {imported}")
