"""The stub of the native module says what is in it: no name more, and none less."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from unified_scheduler_engine import _engine

STUB = ast.parse((Path(inspect.getfile(_engine)).parent / "_engine.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}


def names(body: list[ast.stmt]) -> set[str]:
    """What a module or class of the stub defines."""
    found = set()
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def public(thing: Any) -> set[str]:
    """What is there, without what every class or module has."""
    return {name for name in vars(thing) if not name.startswith("__")}


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The names of a function's parameters, without `self`."""
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    star = [extra for extra in (given.vararg, given.kwarg) if extra is not None]
    return [arg.arg for arg in [*named, *star] if arg.arg != "self"]


def test_it_has_the_names_of_the_module() -> None:
    assert names(STUB.body) - {"__version__"} == public(_engine)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_its_classes_have_the_members_and_parameters_of_the_modules(name: str) -> None:
    body, real = CLASSES[name].body, getattr(_engine, name)
    assert {name for name in names(body) if not name.startswith("__")} == public(real)
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        is_property = any(ast.unparse(d) == "property" for d in node.decorator_list)
        member = inspect.getattr_static(real, node.name, None)
        assert is_property == inspect.isdatadescriptor(member), node.name
        if not is_property and not node.name.startswith("__"):
            told = [p for p in inspect.signature(member).parameters if p != "self"]
            assert parameters(node) == told, node.name


def test_its_functions_have_the_parameters_of_the_modules() -> None:
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef):
            assert parameters(node) == list(inspect.signature(getattr(_engine, node.name)).parameters)
