"""The orchestrator's settings, from the environment, checked once; units are in the names."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rpc import failpoints

LEAST_SECRET_BYTES = 16
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
    webhook_url: str = ""  # empty: nobody is told
    webhook_secret: SecretStr = SecretStr("")
    webhook_secret_file: str = ""  # a file that holds it instead
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

    @field_validator("webhook_url")
    @classmethod
    def _leads_somewhere(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be an http:// or https:// URL")
        if parts.username or parts.password or parts.fragment:
            raise ValueError("must hold no user, no password and no fragment: deliveries are signed with the secret")
        return url

    @field_validator("webhook_secret_file")
    @classmethod
    def _has_a_secret(cls, file: str, info: ValidationInfo) -> str:
        said = info.data.get("webhook_secret", SecretStr("")).get_secret_value()
        if file and said:
            raise ValueError("and ASSENT_WEBHOOK_SECRET are both set")
        if info.data.get("webhook_url") and len(_secret(said, file)) < LEAST_SECRET_BYTES:
            raise ValueError(
                f"or ASSENT_WEBHOOK_SECRET must give a secret of {LEAST_SECRET_BYTES} bytes or more to sign with"
            )
        return file

    @property
    def webhook_key(self) -> bytes:
        """What deliveries are signed with."""
        return _secret(self.webhook_secret.get_secret_value(), self.webhook_secret_file)

    @property
    def executors(self) -> list[str]:
        return [address.strip() for address in self.executor_addrs.split(",") if address.strip()]


def _secret(said: str, file: str) -> bytes:
    """As it is written; of a file, without the line feed at its end."""
    try:
        return Path(file).read_bytes().strip() if file else said.encode()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
