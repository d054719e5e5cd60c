"""The orchestrator's settings, from the environment, checked once; units are in the names."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rpc import failpoints

SHIPPED_CATALOG = Path(__file__).parent.parent / "catalog"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ASSENT_", frozen=True)

    database_url: str = ""
    grpc_addr: str = "127.0.0.1:50051"
    executor_addrs: str = "127.0.0.1:50052"  # comma-separated
    metrics_addr: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    catalog_dir: Path = SHIPPED_CATALOG
    lease_seconds: float = Field(15, gt=0)
    lease_renew_seconds: float = Field(5, gt=0)
    stop_grace_seconds: float = Field(10, ge=0)
    failpoint: str = ""  # NAME:N:ACTION, comma-separated; for tests and staging
    retention_days: int = Field(0, ge=0)  # 0: finished sessions are kept
    runs_per_tenant: int = Field(0, ge=0)  # 0: no limit
    reflection: bool = True  # until there is authentication, every orchestrator is a development one

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: str) -> str:
        if not url:
            raise ValueError(
                "is not set: the orchestrator needs a PostgreSQL URL (`assent up` starts an embedded one by itself)"
            )
        if not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("must be a postgresql:// URL")
        return url

    @field_validator("failpoint")
    @classmethod
    def _is_a_failpoint(cls, text: str) -> str:
        failpoints.parse(text)
        return text

    @property
    def executors(self) -> list[str]:
        return [address.strip() for address in self.executor_addrs.split(",") if address.strip()]
