"""One set of versions: ranges in pyproject.toml, the tested set in cluster/constraints.txt."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


@pytest.fixture(scope="module")
def tested(root) -> dict[str, Version]:
    lines = (root / "cluster" / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for pin in pins:
        assert [one.operator for one in pin.specifier] == ["=="], f"{pin} is not exact"
    return {canonicalize_name(pin.name): Version(next(iter(pin.specifier)).version) for pin in pins}


def wanted(project: dict) -> list[Requirement]:
    extras = project["project"]["optional-dependencies"].values()
    names = [*project["project"]["dependencies"], *(name for extra in extras for name in extra)]
    return [one for one in map(Requirement, names) if one.name != "jetscale"]


def test_the_tested_set_names_every_dependency_within_its_range(tested, project):
    for one in wanted(project):
        have = tested.get(canonicalize_name(one.name))
        assert have is not None, f"{one.name} is not in constraints.txt"
        assert have in one.specifier, f"{one} does not allow the tested {have}"


def test_every_range_has_a_floor_and_most_a_ceiling(project):
    for one in wanted(project):
        assert any(clause.operator == ">=" for clause in one.specifier), f"{one} has no floor"
    for name in project["project"]["dependencies"]:
        assert "<" in name, f"{name} has no ceiling"


def test_torch_is_named_without_a_build(root):
    lines = (root / "cluster" / "constraints.txt").read_text()
    assert re.search(r"^torch==[\d.]+$", lines, re.MULTILINE)


def test_every_file_in_cluster_names_the_tested_versions(root, files, tested):
    for path in files:
        if path.parts[0] != "cluster" or path.name == "constraints.txt":
            continue
        for name, version in re.findall(r"\b(ray|torch|deepspeed)[=:@]+(\d[\d.]*)", (root / path).read_text()):
            assert Version(version) == tested[name], f"{path} names {name} {version}, tested is {tested[name]}"


def test_the_package_and_its_metadata_agree(project):
    import jetscale

    assert jetscale.__version__ == project["project"]["version"]
