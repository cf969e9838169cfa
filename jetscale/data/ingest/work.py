"""Tasks that may fail one by one: on Ray, or one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from jetscale.errors import JetscaleError

T = TypeVar("T")
WAITING = 256  # so many tasks are handed to Ray at a time
RETRIES = 2  # of a task whose worker died


def each(function: Callable[..., T], arguments: Mapping[str, Sequence[Any]], *,
         here: bool) -> Iterator[tuple[str, T | Exception]]:  # fmt: skip
    """Every result, or what ended it, under its name, as they come; call it where a Ray is at hand, unless `here`."""
    if here:
        for name, given in arguments.items():
            try:
                yield name, function(*given)
            except Exception as problem:  # one failure must not end the others
                yield name, problem
    else:
        yield from _on_ray(function, arguments)


def said(problem: Exception) -> str:
    """What ended a task, without a traceback."""
    if isinstance(problem, JetscaleError):
        return str(problem)
    first = str(problem).strip().splitlines() or ["no reason given"]
    return f"{type(problem).__name__}: {first[0]}"


def _on_ray(function: Callable[..., T], arguments: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, T | Exception]]:
    import ray

    task = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
    shared: dict[int, Any] = {}
    todo, under_way = list(arguments)[::-1], dict[Any, str]()
    while todo or under_way:
        while todo and len(under_way) < WAITING:
            name = todo.pop()
            given = [_shared(value, shared) for value in arguments[name]]
            under_way[task.options(name=f"{function.__name__} {name}").remote(*given)] = name
        (ready, *_), _ = ray.wait(list(under_way), num_returns=1)
        name = under_way.pop(ready)
        try:
            yield name, ray.get(ready)
        except ray.exceptions.RayError as problem:
            cause = getattr(problem, "cause", None)
            yield name, cause if isinstance(cause, Exception) else problem


def _shared(value: Any, known: dict[int, Any]) -> Any:
    """Settings that many tasks have in common are sent once."""
    import ray

    if isinstance(value, str | int | float | None):
        return value
    if id(value) not in known:
        known[id(value)] = (value, ray.put(value))  # the value is kept, so that its id stays its own
    return known[id(value)][1]
