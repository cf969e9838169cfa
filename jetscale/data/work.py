"""Tasks that may fail one by one: on Ray, or one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from jetscale.errors import JetscaleError

T = TypeVar("T")
WAITING = 256  # so many tasks are handed to Ray at a time


def each(function: Callable[..., T], common: Any, arguments: Mapping[str, Sequence[Any]], *,
         here: bool = False, retries: int = 2) -> Iterator[tuple[str, T | Exception]]:  # fmt: skip
    """Every `function(common, *given)`, or what ended it, under its name, as they come.

    It needs a Ray at hand, unless `here`. What they have in common is sent once; a task whose worker dies is tried so
    many times again.
    """
    if here:
        for name, given in arguments.items():
            try:
                yield name, function(common, *given)
            except Exception as problem:  # one failure must not end the others
                yield name, problem
    elif arguments:
        yield from _on_ray(function, common, arguments, retries)


def said(problem: Exception, file: str = "") -> str:
    """What ended a task, without a traceback; its file is named, if there is one."""
    if isinstance(problem, JetscaleError):
        text = str(problem)
    else:
        first = str(problem).strip().splitlines() or ["no reason given"]
        text = f"{type(problem).__name__}: {first[0]}"
    return text if file in text else f"{file}: {text}"


def _on_ray(function: Callable[..., T], common: Any, arguments: Mapping[str, Sequence[Any]],
            retries: int) -> Iterator[tuple[str, T | Exception]]:  # fmt: skip
    import ray

    task = ray.remote(num_cpus=1, max_retries=retries)(function)
    shared = ray.put(common)
    waiting, under_way = list(arguments)[::-1], dict[Any, str]()
    while waiting or under_way:
        while waiting and len(under_way) < WAITING:
            name = waiting.pop()
            under_way[task.options(name=name).remote(shared, *arguments[name])] = name
        (ready, *_), _ = ray.wait(list(under_way), num_returns=1)
        name = under_way.pop(ready)
        try:
            yield name, ray.get(ready)
        except ray.exceptions.RayError as problem:
            cause = getattr(problem, "cause", None)
            yield name, cause if isinstance(cause, Exception) else problem
