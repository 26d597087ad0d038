"""Which templates there are: our registry, and how the one of a backend is found and read.

Every registry with `get` and one of `list_templates`, `get_metadata` will do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ._schema import wrapped

logger = logging.getLogger("unified_scheduler")


class TemplateRegistry:
    """Templates by their type."""

    def __init__(self) -> None:
        self._templates: dict[str, Any] = {}

    def register(self, template: Any) -> None:
        """Adds a template, in place of the one of the same type."""
        kind = str(template.template_type)
        if kind in self._templates and self._templates[kind] is not template:
            logger.warning("the template '%s' is registered again; the new one counts", kind)
        self._templates[kind] = template

    def unregister(self, template_type: str) -> bool:
        """Takes a template away; whether there was one."""
        return self._templates.pop(template_type, None) is not None

    def get(self, template_type: str) -> Any:
        """The template of a type; `None` when there is none."""
        return self._templates.get(template_type)

    def list_templates(self) -> list[str]:
        """All types."""
        return list(self._templates)

    def exists(self, template_type: str) -> bool:
        """Whether there is a template of this type."""
        return template_type in self._templates

    def get_by_category(self, category: str) -> list[Any]:
        """The templates of a category."""
        return [t for t in self._templates.values() if getattr(t, "category", "general") == category]

    def get_metadata(self, template_type: str | None = None) -> dict[str, Any]:
        """What pages show of a template, `{}` of one that is unknown; without a type, of all of them."""
        if template_type is not None:
            template = self._templates.get(template_type)
            return {} if template is None else metadata_of(template)
        told = [metadata_of(template) for template in self._templates.values()]
        return {"templates": told, "count": len(told)}


_DEFAULTS = {
    "name": ("template_name", ""),
    "description": ("template_description", ""),
    "category": ("category", "general"),
    "icon": ("icon", "⚙️"),
    "estimated_duration": ("estimated_duration", "Unknown"),
    "resource_usage": ("resource_usage", "medium"),
    "risk_level": ("risk_level", "low"),
}


def metadata_of(template: Any) -> dict[str, Any]:
    """The metadata of any template; every text is one, so that pages can show and sort them."""
    told: Any = None
    if callable(getattr(template, "get_metadata", None)):
        try:
            told = template.get_metadata()
        except Exception:
            logger.exception("a template does not tell its metadata")
    metadata: dict[str, Any] = dict(told) if isinstance(told, Mapping) else {}
    kind = str(metadata.get("type") or getattr(template, "template_type", "base_template"))
    for key, (attribute, default) in _DEFAULTS.items():
        value = metadata.get(key)
        if value is None:
            value = getattr(template, attribute, None)
        metadata[key] = str(default if value is None else value) or (kind if key == "name" else "")
    if "parameters_schema" not in metadata:
        get_schema = getattr(template, "get_schema", None)
        metadata["parameters_schema"] = wrapped(get_schema() if callable(get_schema) else None)
    metadata["type"] = kind
    metadata.setdefault("_id", kind)
    return metadata


_registry: TemplateRegistry | None = None


def get_template_registry() -> TemplateRegistry:
    """The registry of this process."""
    global _registry
    if _registry is None:
        _registry = TemplateRegistry()
    return _registry


def initialize_templates() -> TemplateRegistry:
    """The registry of this process, with the built-in templates."""
    return get_template_registry()


def find_registry(explicit: Any = None) -> Any:
    """The registry that counts: the given one; that of the backend, where its module is loaded; ours."""
    if explicit is not None:
        return explicit
    module = sys.modules.get("job_templates.registry")
    get = getattr(module, "get_template_registry", None)
    if callable(get):
        found = get()
        if found is not None:
            return found
    return get_template_registry()


def templates_of(registry: Any) -> dict[str, Any]:
    """The templates of any registry, by their types."""
    found: dict[str, Any] = {}
    for key, item in _listed(registry):
        template = item if callable(getattr(item, "execute", None)) else registry.get(key)
        if template is not None:
            found[key] = template
    return found


def _listed(registry: Any) -> Iterator[tuple[str, Any]]:
    """Types, and what stands beside them: `list_templates` gives types, templates or metadata."""
    if isinstance(registry, Mapping):
        yield from ((str(key), item) for key, item in registry.items())
        return
    list_templates = getattr(registry, "list_templates", None)
    told: Any = list_templates() if callable(list_templates) else registry.get_metadata()
    if isinstance(told, Mapping):
        told = told["templates"] if "templates" in told else list(told.items())
    for item in told:
        if isinstance(item, str):
            yield item, None
        elif isinstance(item, tuple) and len(item) == 2:
            yield str(item[0]), item[1]
        elif isinstance(item, Mapping):
            kind = item.get("type") or item.get("template_type") or item.get("_id")
            if kind is not None:
                yield str(kind), None
        elif (kind := getattr(item, "template_type", None)) is not None:
            yield str(kind), item
