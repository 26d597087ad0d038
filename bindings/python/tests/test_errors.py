"""One tree of exceptions, one class for each kind of the engine."""

from __future__ import annotations

import doctest
import importlib
import json

import pytest
import unified_scheduler
import unified_scheduler_engine
from unified_scheduler_engine import SchedulerError, _engine, _errors


def test_every_kind_has_its_class() -> None:
    assert set(_errors.BY_KIND) == set(_engine.ERROR_KINDS)
    for kind in _engine.ERROR_KINDS:
        text = json.dumps({"kind": kind, "message": "m", "faults": [{"field": "f", "message": "x"}]})
        error = _errors.error_from_json(text)
        assert isinstance(error, SchedulerError) and error.kind == kind and error.faults[0].field == "f"


def test_both_names_give_the_same_things() -> None:
    assert set(unified_scheduler.__all__) == set(unified_scheduler_engine.__all__)
    for name in unified_scheduler.__all__:
        assert getattr(unified_scheduler, name) is getattr(unified_scheduler_engine, name)


@pytest.mark.parametrize(
    "module",
    ["", "._errors", "._options", "._results", "._targets", "._triggers", ".policies", ".schedules",
     ".scheduler", ".sync", ".testing"],
)  # fmt: skip
def test_the_examples_in_the_documentation_are_true(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"unified_scheduler_engine{module}"))
    assert result.failed == 0
