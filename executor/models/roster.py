"""Which model answers to a name. Models are made when they are first asked for, and kept."""

import asyncio
import os

from executor.errors import StepFailed
from executor.models.model import Model
from executor.models.script import Script
from executor.models.scripted import ScriptedModel

SCRIPTED = "scripted"

# A provider is offered when one of these is set; its client reads them too.
_PROVIDERS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "ollama": ("OLLAMA_BASE_URL",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
}


class Roster:
    """The models of this executor: the script's, the default's provider, and those with a key."""

    def __init__(self, default: str, script: Script) -> None:
        configured = [name for name, keys in _PROVIDERS.items() if any(os.environ.get(key) for key in keys)]
        self.providers = list(dict.fromkeys([_provider(default), SCRIPTED, *configured]))
        self._default = default
        self._scripted = ScriptedModel(script)
        self._models: dict[str, Model] = {}
        self._making = asyncio.Lock()

    def offers(self, name: str) -> bool:
        """Whether this executor can ask that model; the provider may still not know it."""
        return _provider(self.full_name(name)) in self.providers

    def full_name(self, name: str) -> str:
        """The name, or the default's where it is empty."""
        return name or self._default

    async def get(self, name: str) -> Model:
        """The model of that full name; StepFailed if its provider cannot be set up."""
        if _provider(name) == SCRIPTED:
            return self._scripted
        if name not in self._models:
            async with self._making:
                if name not in self._models:
                    # In a thread, because the first import of a provider takes seconds.
                    self._models[name] = await asyncio.to_thread(_provider_model, name)
        return self._models[name]


def _provider(name: str) -> str:
    return name.partition(":")[0]


def _provider_model(name: str) -> Model:
    from executor.models.provider import ProviderModel

    try:
        return ProviderModel(name)
    except ModuleNotFoundError as error:
        raise StepFailed("MODEL_NOT_FOUND", f"{name}: {error.name} is not installed", "HUMAN_REQUIRED") from error
