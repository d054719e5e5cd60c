"""What the gateway is told by its environment. Only names, defaults and units; nothing is decided here."""

from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The gateway's settings: environment variables that begin with ASSENT_."""

    model_config = SettingsConfigDict(env_prefix="ASSENT_", frozen=True)

    http_addr: str = "127.0.0.1:8080"
    """Where it listens for HTTP."""

    grpc_addr: str = "127.0.0.1:50051"
    """Where the orchestrator listens; several are replicas, separated by commas, asked in turn."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe log line that is written."""
