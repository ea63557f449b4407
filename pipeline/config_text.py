"""A config as a TOML file that says what each key means."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from pipeline.config import Config


def to_toml(config: Config) -> str:
    """TOML of the whole config, each key with its meaning; reading it gives the same config."""
    head: list[str] = []
    sections: list[str] = []
    lists: list[str] = []
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            sections += ["", f"[{name}]  # {field.description}", *_section(value)]
        elif value:
            for item in value:
                lists += ["", f"[[{name}]]  # {field.description}", *_section(item)]
        elif value == field.default:
            lists += ["", f"# [[{name}]]: {field.description}"]
        else:
            head.append(f"{name} = []  # {field.description}")
    return "\n".join([*head, *sections, *lists]).lstrip("\n") + "\n"


def _section(model: BaseModel) -> list[str]:
    values = model.model_dump(mode="json")
    fields = type(model).model_fields
    return [
        f"{name} = {_value(value)}  # {fields[name].description}"
        for name, value in values.items()
        if value is not None
    ]


def _value(value: Any) -> str:
    """JSON is TOML for strings, numbers, booleans and lists of them; TOML wants DEL escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
