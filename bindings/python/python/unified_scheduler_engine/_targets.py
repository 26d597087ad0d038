"""What functions and templates become when they are registered: something that can be run with a context."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ._engine import Context
from ._errors import Fault, InvalidError
from ._processes import run_in_process

#: Names of a first parameter that wants the context.
CONTEXT_NAMES = ("ctx", "context")


def unwrapped(func: Callable[..., Any]) -> Any:
    """What is below partials."""
    inner: Any = func
    while isinstance(inner, functools.partial):
        inner = inner.func
    return inner


def is_async(func: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine.

    >>> async def f(): ...
    >>> is_async(f), is_async(functools.partial(f)), is_async(len)
    (True, True, False)
    """
    inner = unwrapped(func)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(
        getattr(type(inner), "__call__", None)  # noqa: B004
    )


def resolve(reference: str) -> Callable[..., Any]:
    """The function that `module:name` names.

    >>> resolve("json:dumps")([1])
    '[1]'
    """
    module, _, path = reference.partition(":")
    if not module or not path:
        raise InvalidError(f"`{reference}` is no reference; such as `package.module:function`")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise InvalidError(f"`{reference}` can't be called")
    return found  # type: ignore[no-any-return]


def name_of(func: Callable[..., Any]) -> str:
    """The name of a job that is not named."""
    inner = unwrapped(func)
    return str(getattr(inner, "__name__", None) or type(inner).__name__)


def wants_context(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the function takes the context before its own arguments."""
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return False
    first = next(iter(signature.parameters.values()), None)
    if first is None:
        return False
    named = first.name in CONTEXT_NAMES or _is_context(first.annotation)
    if named and first.name not in kwargs and first.kind is not first.KEYWORD_ONLY:
        return True
    if _binds(signature, args, kwargs):
        return False
    # Nothing was given and one thing is wanted: that is the context, whatever its name.
    if not args and not kwargs and _binds(signature, (None,), {}):
        return True
    raise InvalidError(
        f"{name_of(func)}{signature} can be called neither with {len(args)} arguments"
        f" and {sorted(kwargs)} nor with a context before them",
        (Fault("args", "don't fit the function"),),
    )


def _is_context(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] == "Context"
    return annotation is Context


def _binds(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


class FunctionTarget:
    """A function with its arguments."""

    __slots__ = ("func", "kind", "run")

    def __init__(
        self,
        func: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        executor: str | None = None,
    ) -> None:
        if not callable(func):
            raise InvalidError(f"{func!r} can't be called", (Fault("func", "can't be called"),))
        kwargs = dict(kwargs or {})
        args = tuple(args)
        self.func = func
        self.kind = _kind(func, executor)
        takes = wants_context(func, args, kwargs)
        if self.kind == "process":
            self.run: Callable[[Context], Any] = functools.partial(
                run_in_process, _Invocation(func, args, kwargs, takes)
            )
        elif takes:
            self.run = functools.partial(_with_context, func, args, kwargs) if args or kwargs else func
        else:
            self.run = functools.partial(_without_context, func, args, kwargs)


def _kind(func: Callable[..., Any], executor: str | None) -> str:
    asynchronous = is_async(func)
    if executor in (None, "default"):
        return "loop" if asynchronous else "thread"
    if executor in ("thread", "process") and asynchronous:
        raise InvalidError(
            f"{name_of(func)} is a coroutine function, which runs on the event loop",
            (Fault("executor", f"`{executor}` is for plain functions"),),
        )
    if executor in ("thread", "process"):
        return str(executor)
    if executor in ("loop", "asyncio"):
        return "loop" if asynchronous else "thread"
    raise InvalidError(f"there is no executor `{executor}`", (Fault("executor", "use thread or process"),))


def _with_context(func: Any, args: Any, kwargs: Any, ctx: Context) -> Any:
    return func(ctx, *args, **kwargs)


def _without_context(func: Any, args: Any, kwargs: Any, _ctx: Context) -> Any:
    return func(*args, **kwargs)


class _Invocation:
    """A call that can be sent to another process."""

    def __init__(self, func: Any, args: Any, kwargs: Any, takes_context: bool) -> None:
        self.call = (func, args, kwargs, takes_context)

    def __call__(self, ctx: Any) -> Any:
        func, args, kwargs, takes_context = self.call
        return func(ctx, *args, **kwargs) if takes_context else func(*args, **kwargs)


def schema_of(parameters: Any) -> dict[str, Any]:
    """The JSON Schema of a template's parameters: given as such, flat, or as a pydantic model.

    >>> schema_of({"days": {"type": "integer"}})
    {'type': 'object', 'properties': {'days': {'type': 'integer'}}, 'required': []}
    """
    if parameters is None:
        return {"type": "object", "properties": {}}
    make = getattr(parameters, "model_json_schema", None)
    schema: dict[str, Any]
    if callable(make):
        schema = cast("dict[str, Any]", make())
    elif isinstance(parameters, Mapping):
        schema = dict(parameters)
    else:
        raise InvalidError(f"{parameters!r} is neither a JSON Schema nor a pydantic model")
    if schema and "properties" not in schema and not any(key.startswith("$") for key in schema):
        schema = {"type": "object", "properties": schema, "required": []}
    return json.loads(json.dumps(schema, default=str))  # type: ignore[no-any-return]


class TemplateTarget:
    """A function with metadata and, where its parameters are a pydantic model, their check."""

    __slots__ = ("checks", "kind", "metadata", "model", "run")

    def __init__(
        self, func: Callable[..., Any], metadata: dict[str, Any], model: Any, executor: str | None
    ) -> None:
        self.metadata = metadata
        self.model = model if callable(getattr(model, "model_validate", None)) else None
        self.checks = self.model is not None
        self.kind = _kind(func, executor)
        if self.model is None:
            self.run: Callable[[Context], Any] = FunctionTarget(func, executor=executor).run
        elif self.kind == "process":
            raise InvalidError("a template with a pydantic model can't run in a process of its own")
        else:
            self.run = functools.partial(_with_model, func, self.model)

    def check(self, parameters: dict[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with parameters; they may be mended in place."""
        if self.model is None:
            return []
        try:
            model = self.model.model_validate(parameters)
        except ValueError as error:
            details: Any = getattr(error, "errors", None)
            if details is None:
                return [("", str(error))]
            return [(".".join(str(place) for place in d["loc"]), d["msg"]) for d in details()]
        mended = json.loads(model.model_dump_json())
        parameters.clear()
        parameters.update(mended)
        return []


def _with_model(func: Any, model: Any, ctx: Context) -> Any:
    return func(ctx, model.model_validate(ctx.parameters))


class ObjectTarget:
    """Anything with `template_type`, `get_schema()` and `async execute(ctx)`, whatever its class.

    Optional: `validate_params(parameters)`, which may mend them in place and answers `(accepted, message)`,
    a truth value, or raises; `get_metadata()`; the attributes `template_name`, `template_description`,
    `category`, `icon`, `estimated_duration`, `resource_usage`, `risk_level`, `retry_safe`.
    """

    __slots__ = ("checks", "kind", "metadata", "run", "template")

    def __init__(self, template: Any) -> None:
        self.template = template
        self.metadata = metadata_of(template)
        self.checks = callable(getattr(template, "validate_params", None))
        self.kind = "loop" if is_async(template.execute) else "thread"
        self.run: Callable[[Context], Any] = template.execute

    def check(self, parameters: dict[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with parameters; they may be mended in place."""
        if not self.checks:
            return []
        try:
            verdict = self.template.validate_params(parameters)
        except Exception as error:
            return [("", str(error) or type(error).__name__)]
        accepted, message = verdict if isinstance(verdict, tuple) else (verdict, None)
        if accepted or verdict is None:
            return []
        return [("", str(message or "the template refuses them"))]


def metadata_of(template: Any) -> dict[str, Any]:
    """The metadata of a template object."""
    told = template.get_metadata() if callable(getattr(template, "get_metadata", None)) else {}
    told = told if isinstance(told, Mapping) else {}
    kind = str(template.template_type)
    schema = told.get("parameters_schema")
    if schema is None:
        schema = template.get_schema() if callable(getattr(template, "get_schema", None)) else None

    def word(key: str, attribute: str, default: str) -> str:
        value = told.get(key, getattr(template, attribute, None))
        return default if value is None else str(value)

    return {
        "type": kind,
        "name": word("name", "template_name", kind),
        "description": word("description", "template_description", ""),
        "category": word("category", "category", "general"),
        "icon": word("icon", "icon", "⚙️"),
        "estimated_duration": word("estimated_duration", "estimated_duration", "Unknown"),
        "resource_usage": word("resource_usage", "resource_usage", "medium"),
        "risk_level": word("risk_level", "risk_level", "low"),
        "parameters_schema": schema_of(schema),
        "retry_safe": bool(getattr(template, "retry_safe", False)),
    }
