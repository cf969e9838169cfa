"""An error says where, what and what to do, and survives the way back from a worker."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetscale.errors import ConfigError, DataError, JetscaleError, TrainError, nearest


def test_where_what_and_cure():
    text = str(DataError("column 'jet_pt' is missing", where="sample/shard-00000.parquet", cure="make it anew"))
    assert text == "sample/shard-00000.parquet: column 'jet_pt' is missing\n  what to do: make it anew"


def test_what_alone():
    assert str(TrainError("the loss is nan")) == "the loss is nan"


@pytest.mark.parametrize(("kind", "code"), [(ConfigError, 2), (DataError, 1), (TrainError, 1), (JetscaleError, 1)])
def test_exit_codes(kind, code):
    assert kind("x").exit_code == code


@given(st.text(), st.text(), st.text())
def test_pickling_keeps_everything(what, where, cure):
    error = DataError(what, where=where, cure=cure)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    assert (type(again), again.what, again.where, again.cure) == (DataError, what, where, cure)


def test_the_nearest_name_comes_first():
    assert (
        nearest("asigner", ["assigner", "particlenet"]) == "did you mean 'assigner'? known here: assigner, particlenet"
    )


def test_nothing_near_and_nothing_known():
    assert nearest("xyz", ["assigner"]) == "known here: assigner"
    assert nearest("xyz", []) == "known here: nothing"


def test_long_lists_are_cut():
    assert nearest("zzz", [f"name{i:02d}" for i in range(30)]).endswith("name19, ...")
