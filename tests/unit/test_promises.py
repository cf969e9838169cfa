"""What every system promises, asked of every file of `systems/`."""

import re

import numpy as np
import pytest
import torch

from jetscale.config import build
from jetscale.data.batch import batch
from jetscale.run import resolve
from jetscale.schema import check
from jetscale.task import At, find, names

YEAR = r"\b(19[5-9]|20[0-4])\d\b"
SOURCE = r"""[A-Z]\w+,\s+["“][^"”]{10,}["”]|arXiv:\d{4}\.\d{4,5}|doi\.org/10\."""  # Author, "Title"; arXiv; DOI


def test_there_are_systems() -> None:
    assert "assigner" in names()


@pytest.mark.parametrize("name", names())
def test_defaults_build_and_go_through_yaml(name: str) -> None:
    task = find(name).task()
    assert build(type(task), task.values(), name) == task
    assert sum(p.numel() for p in task.build(1).parameters()) > 0


@pytest.mark.parametrize("name", names())
def test_the_recipe_is_complete(name: str) -> None:
    recipe = find(name).recipe()
    job = {"system": name, "stream": {"samples": {"toy": {"events": "toy"}}}}
    resolved = resolve([("job", job)], name)
    assert resolved.run.system == recipe["system"] == name
    assert resolved.why["horizon.epochs"] == f"recipe of {name}"
    assert resolved.why["seed"] == "default"


@pytest.mark.parametrize("name", names())
def test_the_source_is_named(name: str) -> None:
    doc = find(name).doc
    assert re.search(YEAR, doc), "say of which year the talk or paper is that this system comes from"
    assert re.search(SOURCE, doc), "name its authors and title, its arXiv number or its DOI"


@pytest.mark.parametrize(
    ("doc", "found"),
    [
        ('Ann Author, Bo Coauthor, "A network for jets", 2024.', (True, True)),
        ("See arXiv:1611.01144, of 2016.", (True, True)),
        ("Trained on 20 quarks with 4096 hidden units, twice.", (False, False)),
        ("As everyone has known since 2019.", (True, False)),
    ],
)
def test_a_source_is_told_from_none(doc: str, found: tuple[bool, bool]) -> None:
    assert (bool(re.search(YEAR, doc)), bool(re.search(SOURCE, doc))) == found


@pytest.mark.parametrize("name", names())
def test_same_seed_same_bits(name: str) -> None:
    task = find(name).task()
    first, again, other = task.build(4), task.build(4), task.build(5)
    assert all(a.equal(b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(a.equal(b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert task.toy(50, 1).equals(task.toy(50, 1))
    assert not task.toy(50, 1).equals(task.toy(50, 2))


@pytest.mark.parametrize("name", names())
def test_the_toy_keeps_the_contract_and_terms_have_weights(name: str) -> None:
    task = find(name).task()
    toy = task.toy(50, 1)
    check(toy, task.columns, name)
    rows = np.arange(50)
    padded = batch([toy], task.columns, np.ones(50), np.zeros(50, dtype=np.int64), rows, At(0, 0, 0.0), 1)
    net = task.build(1)
    values, weights = task.loss(net, padded), task.weights(padded)
    assert set(values) == set(weights)
    assert all(value.shape == (50,) and torch.isfinite(value).all() for value in values.values())
    assert set(task.score(net, padded)) == set(task.outputs.names)


@pytest.mark.parametrize("name", names())
def test_no_rows_are_finite(name: str) -> None:
    task = find(name).task()
    none = np.zeros(0, dtype=np.int64)
    filler = batch([], task.columns, none, none, none, At(0, 0, 0.0), 1)
    values, weights = task.loss(task.build(1), filler), task.weights(filler)
    assert all(torch.isfinite(value).all() for value in values.values())
    assert all((weight == 0).all() for weight in weights.values())
