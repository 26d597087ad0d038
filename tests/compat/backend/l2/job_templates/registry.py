"""Ours in its place."""

from unified_scheduler_engine import TemplateRegistry, get_template_registry, initialize_templates

__all__ = ["TemplateRegistry", "get_template_registry", "initialize_templates"]
