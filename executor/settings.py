"""The executor's settings, from the environment, checked once; units are in the names."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rpc import failpoints

_SHIPPED_SCRIPT = Path(__file__).parent.parent / "catalog/scripts/demo.yaml"


class Settings(BaseSettings):
    """Environment variables that begin with ASSENT_; keys of providers are read by their own clients."""

    model_config = SettingsConfigDict(env_prefix="ASSENT_", frozen=True)

    executor_addr: str = ""
    """Where it listens. Empty: the first of `executor_addrs`."""

    executor_addrs: str = "127.0.0.1:50052"
    """Where orchestrators look for executors, separated by commas."""

    data_dir: Path = Path(".assent")
    """Where Assent keeps its data."""

    workspace_roots: str = ""
    """Directories that hold the sessions' workspaces, separated by commas. Empty: `workspaces` in `data_dir`."""

    model: str = "scripted:"
    """The model this executor must be able to ask; others are offered where their keys are set."""

    script: Path = _SHIPPED_SCRIPT
    """What the scripted model plays."""

    command_network: bool = False
    """Whether commands that agents run reach the network, and with it Assent's own ports."""

    executor_slots: int = Field(256, ge=1, le=10_000)
    """How many steps it holds at most, outcomes that nobody has recorded yet included."""

    metrics_addr: str = ""
    """Where Prometheus reads. Empty: nowhere."""

    log_level: str = "info"
    """The least severe log line that is written."""

    stop_grace_seconds: float = Field(10, ge=0)
    """How long a stopping executor lets its steps run on."""

    failpoint: str = ""
    """Where it shall fail, for tests and staging: NAME:N:ACTION, separated by commas."""

    reflection: bool = True
    """Whether tools such as grpcurl can ask what there is."""

    @field_validator("model")
    @classmethod
    def _names_a_provider(cls, model: str) -> str:
        if ":" not in model:
            raise ValueError("must be PROVIDER:MODEL, for example openai:gpt-5-mini, ollama:qwen3 or scripted:")
        return model

    @field_validator("failpoint")
    @classmethod
    def _is_a_failpoint(cls, text: str) -> str:
        failpoints.parse(text)
        return text

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.executor_addr or self.executor_addrs.split(",")[0].strip()

    @property
    def roots(self) -> list[Path]:
        """The workspace roots."""
        named = [Path(part.strip()) for part in self.workspace_roots.split(",") if part.strip()]
        return named or [self.data_dir / "workspaces"]
