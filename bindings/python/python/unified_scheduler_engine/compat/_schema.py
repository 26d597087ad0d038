"""The schemas of templates, in both of their dialects: JSON Schema, and only its properties ("flat").

Beside `type`, `description`, `default` and `enum`, the flat dialect has `label`, `min`, `max` and
`required_if`. What a form sends as text where the schema says a number is made one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]


def wrapped(schema: Any) -> dict[str, Any]:
    """The schema as JSON Schema: one that has `properties` as it is, a flat one with them around it.

    >>> wrapped({"days": {"type": "integer"}})
    {'type': 'object', 'properties': {'days': {'type': 'integer'}}, 'required': []}
    """
    if not isinstance(schema, Mapping):
        return {"type": "object", "properties": {}, "required": []}
    if "properties" in schema:
        return dict(schema)
    return {"type": "object", "properties": dict(schema), "required": []}


def _properties(schema: Any) -> dict[str, Schema]:
    properties = wrapped(schema).get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {str(k): v for k, v in properties.items() if isinstance(v, Mapping)}


def coerce(schema: Any, params: dict[str, Any]) -> None:
    """Makes numbers and truth values of texts, in place, where the schema says so and nothing is lost.

    >>> params = {"codes": ["200", "201"], "name": "7"}
    >>> coerce({"codes": {"type": "array", "items": {"type": "integer"}}}, params)
    >>> params
    {'codes': [200, 201], 'name': '7'}
    """
    for name, rule in _properties(schema).items():
        if name in params:
            params[name] = _coerced(rule, params[name])


def _coerced(rule: Schema, value: Any) -> Any:
    kind = rule.get("type")
    items = rule.get("items")
    if kind == "array" and isinstance(value, list) and isinstance(items, Mapping):
        return [_coerced(items, item) for item in value]
    if kind == "object" and isinstance(value, dict) and "properties" in rule:
        coerce(rule, value)
        return value
    if isinstance(value, float):
        whole = math.isfinite(value) and value == int(value)
        return int(value) if kind == "integer" and whole else value
    if not isinstance(value, str):
        return value
    text = value.strip()
    if kind == "integer" and re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if kind == "number" and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return float(text) if re.search(r"[.eE]", text) else int(text)
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return value


def faults(schema: Any, params: Mapping[str, Any]) -> list[str]:
    """What is wrong with parameters, by the schema. Fields that it does not know are let be, and so is
    `null` where nothing is required.

    >>> faults({"days": {"type": "integer", "min": 1}}, {"days": 0})
    ['days: 0 is less than 1']
    """
    whole = wrapped(schema)
    required = whole.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    found: list[str] = []
    for name, rule in _properties(schema).items():
        value = params.get(name)
        if value is None:
            if name in needed or rule.get("required") is True or _is_required_here(rule, params):
                found.append(f"{name}: is required")
            continue
        found.extend(f"{name}{fault}" for fault in _value_faults(rule, value))
    found.extend(
        f"{name}: is required" for name in sorted(needed - _properties(schema).keys() - params.keys())
    )
    return found


def _is_required_here(rule: Schema, params: Mapping[str, Any]) -> bool:
    """`required_if: {field: value}`, or with a list of values; or the name of a field that is set."""
    condition = rule.get("required_if")
    if isinstance(condition, str):
        return bool(params.get(condition))
    if not isinstance(condition, Mapping) or not condition:
        return False
    return all(
        params.get(name) in wanted if isinstance(wanted, (list, tuple)) else params.get(name) == wanted
        for name, wanted in condition.items()
    )


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "array": lambda v: isinstance(v, (list, tuple)),
    "object": lambda v: isinstance(v, Mapping),
}


def _value_faults(rule: Schema, value: Any) -> list[str]:
    kind = rule.get("type")
    if isinstance(kind, str) and kind in _TYPES and not _TYPES[kind](value):
        return [f": is no {kind}"]
    enum = rule.get("enum")
    if isinstance(enum, (list, tuple)) and enum and value not in enum:
        return [f": {value!r} is none of {', '.join(map(str, enum))}"]
    found: list[str] = []
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        found.extend(_bounds(value, rule, ("minimum", "min"), ("maximum", "max"), str(value)))
    elif isinstance(value, str):
        length = f"its length of {len(value)}"
        found.extend(_bounds(len(value), rule, ("minLength",), ("maxLength",), length))
        pattern = rule.get("pattern")
        if isinstance(pattern, str) and not re.search(pattern, value):
            found.append(f": does not match {pattern}")
    elif isinstance(value, (list, tuple)):
        found.extend(_bounds(len(value), rule, ("minItems",), ("maxItems",), f"{len(value)} items"))
        items = rule.get("items")
        if isinstance(items, Mapping):
            for place, item in enumerate(value):
                found.extend(f"[{place}]{fault}" for fault in _value_faults(items, item))
    elif isinstance(value, Mapping) and "properties" in rule:
        found.extend(f".{fault}" for fault in faults(rule, value))
    return found


def _bounds(
    value: float, rule: Schema, least: tuple[str, ...], most: tuple[str, ...], shown: str
) -> list[str]:
    found = []
    for name in least:
        bound = rule.get(name)
        if isinstance(bound, (int, float)) and value < bound:
            found.append(f": {shown} is less than {bound}")
    for name in most:
        bound = rule.get(name)
        if isinstance(bound, (int, float)) and value > bound:
            found.append(f": {shown} is more than {bound}")
    return found


def check(template: Any, params: dict[str, Any]) -> str | None:
    """Why a template refuses parameters, which it may mend in place; `None` when it takes them."""
    schema: Any = None
    get_schema = getattr(template, "get_schema", None)
    if callable(get_schema):
        schema = get_schema()
        coerce(schema, params)
    refused = verdict(template, params)
    if refused is not None:
        return refused
    found = faults(schema, params) if schema is not None else []
    return "; ".join(found) or None


def verdict(template: Any, params: dict[str, Any]) -> str | None:
    """What the template's own `validate_params` says."""
    validate = getattr(template, "validate_params", None)
    if not callable(validate):
        return None
    try:
        answer = validate(params)
    except Exception as error:
        return str(error) or type(error).__name__
    accepted, message = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
    if accepted or answer is None:
        return None
    return str(message or "the template refuses them")
