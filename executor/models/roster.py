"""Which model answers to a name. Models are made when they are first asked for, and kept."""

from executor.errors import StepFailed
from executor.models.model import Model
from executor.models.script import Script
from executor.models.scripted import PREFIX, ScriptedModel


class Roster:
    """The models of this executor; `default` answers to the empty name."""

    def __init__(self, default: str, script: Script | None) -> None:
        self.default = default
        self._scripted = ScriptedModel(script) if script else None
        self._providers: dict[str, Model] = {}

    @property
    def names(self) -> list[str]:
        """What Describe says: a provider's other models may be asked for too."""
        return list(dict.fromkeys([self.default, *([PREFIX] if self._scripted else [])]))

    def get(self, name: str) -> Model:
        """The model of that name; StepFailed if there is none."""
        name = name or self.default
        if name.startswith(PREFIX) or name == PREFIX[:-1]:
            if self._scripted is None:
                raise StepFailed("MODEL_NOT_FOUND", "this executor has no script to play", "HUMAN_REQUIRED")
            return self._scripted
        if name not in self._providers:
            # Imported here, because this takes a second that an offline executor does not need.
            from executor.models.provider import ProviderModel

            self._providers[name] = ProviderModel(name)
        return self._providers[name]
