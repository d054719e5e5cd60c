"""Reading one YAML file strictly; a mistake is named by file, line and field. What the files say is not known here."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from orchestrator.domain.catalog import SECOND

M = TypeVar("M", bound="Strict")


class BadCatalog(Exception):
    """A file of the catalog does not do; the message says where and why."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _micros(value: object) -> object:
    """`90s`, `15m`, `24h` or `7d` as microseconds."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a whole number of s, m, h or d, such as 15m")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]] * SECOND


Duration = Annotated[int, BeforeValidator(_micros), Field(ge=SECOND, le=30 * 86_400 * SECOND)]


def read(path: Path, model: type[M]) -> tuple[M, str]:
    """The file's content and the SHA-256 of its bytes."""
    document: Any = None
    try:
        data = path.read_bytes()
        document = YAML(typ="rt").load(data)
        return model.model_validate(document), hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise BadCatalog(f"{path}: {error.strerror}") from None
    except YAMLError as error:
        raise BadCatalog(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        field = ".".join(str(part) for part in first["loc"])
        raise BadCatalog(f"{path}:{_line(document, first['loc'])}: {field}: {message}") from None


def _line(document: Any, location: tuple[int | str, ...]) -> int:
    """The line of the innermost part of the location that the file has; 1 where it has none."""
    line = 0
    for part in location:
        if not hasattr(document, "lc"):
            break
        try:
            line = document.lc.key(part)[0] if isinstance(part, str) else document.lc.item(part)[0]
            document = document[part]
        except (KeyError, IndexError, TypeError):
            break
    return line + 1
