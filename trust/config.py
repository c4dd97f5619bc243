"""Reads one role's settings: what is given, a TOML file, the environment."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from trust import files
from trust.errors import ProbegateError, Reason

_Settings = TypeVar("_Settings", bound=BaseSettings)


def load_settings(kind: type[_Settings], config: Path | None, **given: Any) -> _Settings:
    """Build settings: what is given wins over the file, and the file over the environment.

    Relative paths in the file are taken from the file's own folder.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``CONFIG_INVALID`` with the setting's name.
    """
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = tomllib.loads(files.read(config).decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProbegateError(
                Reason.CONFIG_INVALID, f"{config}: {error}", file=config.name
            ) from None
        values = {name: _placed(kind, name, value, config) for name, value in values.items()}
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ProbegateError(Reason.CONFIG_INVALID, first["msg"], setting=field) from None


def _placed(kind: type[BaseSettings], name: str, value: Any, config: Path) -> Any:
    field = kind.model_fields.get(name)
    if field is None or not isinstance(value, str) or "Path" not in str(field.annotation):
        return value
    return config.resolve().parent / value
