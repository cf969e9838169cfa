"""Settings: layered with a memory, strict about keys, YAML both ways."""

from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from jetscale.config import Config, build, difference, digest, leaves, merge, parse_set, parse_yaml, read_yaml
from jetscale.errors import ConfigError


class Net(Config):
    hidden: int = Field(64, gt=0)
    rate: float = 1e-3


class Job(Config):
    name: str
    net: Net = Net()
    steps: tuple[int, ...] = ()


KEYS = st.text("abcde", min_size=1, max_size=3)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TREES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(KEYS, NUMBERS, min_size=1),
    lambda inner: st.dictionaries(KEYS, NUMBERS | inner, min_size=1),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e9", 1e9), ("1E9", 1e9), ("-2e-3", -2e-3), ("1.5e3", 1500.0), ("1_000e3", 1e6), ("3", 3), ("0.1", 0.1)],
)
def test_numbers_as_physicists_write_them(text, number):
    assert parse_yaml(f"a: {text}", "here") == {"a": number}


@pytest.mark.parametrize("text", ["e9", "1e", "run1e9x", "v1.5"])
def test_words_stay_words(text):
    assert parse_yaml(f"a: {text}", "here") == {"a": text}


def test_broken_yaml_names_the_file():
    with pytest.raises(ConfigError, match="not valid YAML") as problem:
        parse_yaml("a: [1", "job.yaml")
    assert problem.value.where == "job.yaml"


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "", "just words"])
def test_a_file_without_keys_is_refused(tmp_path, text):
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="not keys with values"):
        read_yaml(file)


def test_a_file_that_is_not_text_is_named(tmp_path):
    file = tmp_path / "shard.parquet"
    file.write_bytes(b"PAR1\x15\x04\xff\xfe")
    with pytest.raises(ConfigError, match="is not a text file") as problem:
        read_yaml(file)
    assert problem.value.where == str(file) and problem.value.cure


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' stands twice"),
        ("train:\n  seed: 1\n  net:\n    x: 1\n    'x': 1\n", "line 5: key 'x' stands twice"),
        ("a: [{b: 1, b: 1}]", "line 1: key 'b' stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, words):
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as problem:
        read_yaml(file)
    assert (problem.value.what, problem.value.where) == (words, str(file))


def test_the_same_key_in_two_blocks_is_two_keys():
    assert parse_yaml("a: {x: 1}\nb: {x: 2}\nx: 3", "here") == {"a": {"x": 1}, "b": {"x": 2}, "x": 3}
    shared = "a: &a {x: 1}\np: {q: &q {<<: *a, x: 2}}\nc: {<<: *q}"
    assert parse_yaml(shared, "here") == {"a": {"x": 1}, "p": {"q": {"x": 2}}, "c": {"x": 2}}


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError) as problem:
        read_yaml(tmp_path / "no.yaml")
    assert problem.value.where.endswith("no.yaml")


def test_later_layers_win_and_are_remembered():
    layers = [
        ("recipe", {"net": {"hidden": 64, "rate": 0.1}, "name": "a"}),
        ("job.yaml", {"net": {"hidden": 32}}),
        ("--set net.rate=0.2", {"net": {"rate": 0.2}}),
    ]
    values, why = merge(layers)
    assert values == {"net": {"hidden": 32, "rate": 0.2}, "name": "a"}
    assert why == {"net.hidden": "job.yaml", "net.rate": "--set net.rate=0.2", "name": "recipe"}


def test_a_whole_is_replaced_not_mixed():
    values, why = merge([("recipe", {"horizon": {"epochs": 20}}), ("job", {"horizon": {"steps": 5}})], ["horizon"])
    assert values == {"horizon": {"steps": 5}}
    assert why == {"horizon.steps": "job"}


SAMPLES = ("job", {"samples": {"qcd": {"events": "q", "weight": 1}, "signal": {"events": "s"}}})


def test_a_dotted_set_reaches_into_what_the_user_has_named():
    change = parse_set("samples.qcd.weight=0.1")
    values, why = merge([SAMPLES, ("--set", change)], named=["samples"])
    assert values == {"samples": {"qcd": {"events": "q", "weight": 0.1}, "signal": {"events": "s"}}}
    assert {leaf for leaf, layer in why.items() if layer == "--set"} == {"samples.qcd.weight"}
    added, _ = merge([SAMPLES, ("--set", parse_set("samples.more.events=m"))], named=["samples"])
    assert list(added["samples"]) == ["qcd", "signal", "more"]


@pytest.mark.parametrize("change", [parse_set("samples={new: {events: n}}"), {"samples": {"new": {"events": "n"}}}])
def test_a_mapping_of_names_replaces_the_old_one(change):
    values, why = merge([SAMPLES, ("later", change)], named=["samples"])
    assert values == {"samples": {"new": {"events": "n"}}}
    assert why == {"samples.new.events": "later"}


def test_a_dotted_set_replaces_a_whole():
    values, _ = merge([("job", {"horizon": {"epochs": 12}}), ("--set", parse_set("horizon.steps=100"))], ["horizon"])
    assert values == {"horizon": {"steps": 100}}


def test_a_number_takes_the_place_of_a_tree_and_back():
    values, why = merge([("one", {"a": {"b": 1, "c": 2}}), ("two", {"a": 3}), ("three", {"a": {"d": 4}})])
    assert values == {"a": {"d": 4}}
    assert why == {"a.d": "three"}


@given(TREES, TREES)
def test_every_leaf_knows_its_layer(first, second):
    values, why = merge([("first", first), ("second", second)])
    assert set(leaves(values)) == set(why)
    for leaf, value in leaves(second).items():
        assert leaves(values)[leaf] == value
        assert why[leaf] == "second"


@given(TREES, TREES)
def test_merging_leaves_the_layers_as_they_were(first, second):
    before = digest([first, second])
    merge([("first", first), ("second", second)])
    assert digest([first, second]) == before


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=1e9", {"a": {"b": 1e9}}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ("a.b.c=word", {"a": {"b": {"c": "word"}}}),
        ("a={b: 1}", {"a": {"b": 1}}),
        ("a=x=y", {"a": "x=y"}),
        ("a=", {"a": None}),
    ],
)
def test_set_is_a_path_and_a_yaml_value(text, values):
    assert parse_set(text) == values


@pytest.mark.parametrize("text", ["a.b", "=3", ""])
def test_set_without_key_or_value_is_refused(text):
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_set(text)


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError) as problem:
        build(Job, {"name": "a", "net": {"hiden": 3}}, "job.yaml")
    assert problem.value.what == "unknown key 'net.hiden'"
    assert "did you mean 'hidden'?" in problem.value.cure
    assert problem.value.where == "job.yaml"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "'name' is missing"),
        ({"name": "a", "net": {"hidden": 0}}, "net.hidden = 0"),
        ({"name": "a", "net": {"rate": float("nan")}}, "net.rate = nan"),
        ({"name": "a", "net": {"rate": "fast"}}, "net.rate = 'fast'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(values, words):
    with pytest.raises(ConfigError) as problem:
        build(Job, values, "job.yaml")
    assert words in problem.value.what


class Pair(Config):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Pairs(Config):
    pair: Pair = Pair()


def test_a_rule_between_keys_names_the_block_and_does_not_show_it_all():
    with pytest.raises(ConfigError) as problem:
        build(Pairs, {"pair": {"low": 3}}, "job.yaml")
    assert (problem.value.what, problem.value.cure) == ("pair: low is above high", "change pair")


@pytest.mark.parametrize(
    ("values", "words"),
    [({"hiden": 3}, "unknown key 'net.hiden'"), ({"hidden": 0}, "net.hidden = 0"), (3, "net = 3")],
)
def test_keys_are_named_with_what_they_stand_under(values, words):
    with pytest.raises(ConfigError) as problem:
        build(Net, values, "job.yaml", under="net")
    assert words in problem.value.what


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Net().hidden = 3  # type: ignore[misc]


@given(st.integers(1, 10**9), st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers(), max_size=3))
def test_yaml_both_ways(hidden, rate, steps):
    job = Job(name="1e5", net=Net(hidden=hidden, rate=rate), steps=tuple(steps))
    again = build(Job, parse_yaml(job.to_yaml(), "here"), "here")
    assert again == job
    assert again.digest() == job.digest()


def test_a_digest_is_the_same_everywhere_and_for_ever():
    assert Job(name="a").digest() == "31d9ba2f86ea"
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert Job(name="a").digest() != Job(name="a", net=Net(hidden=65)).digest()


def test_but_validates():
    assert Net().but(hidden=3).hidden == 3
    with pytest.raises(ConfigError):
        Net().but(hidden=-3)


def test_a_difference_names_what_changed():
    assert difference(Job(name="a"), Job(name="a", net=Net(hidden=65))) == ["net.hidden: 64 -> 65"]
    assert difference(Job(name="a"), Job(name="a")) == []
