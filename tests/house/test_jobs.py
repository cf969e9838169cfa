"""Every job and every shape that ships can be read, and every job fits its shape."""

from pathlib import Path

import pytest

from jetscale.config import read_yaml

ROOT = Path(__file__).parents[2]
JOBS = sorted([*(ROOT / "jobs").rglob("*.yaml"), *(ROOT / "jetscale" / "data" / "sample").glob("*.yaml")])


def test_there_are_jobs():
    assert JOBS


@pytest.mark.parametrize("job", JOBS, ids=lambda job: str(job.relative_to(ROOT)))
def test_the_job_loads(job):
    (verb,) = read_yaml(job)
    if verb == "train":
        from jetscale.run import load

        run = load(job).run
        assert (ROOT / "cluster" / "shapes" / f"{run.scale.shape}.yaml").is_file()
    elif verb == "ingest":
        from jetscale.data.ingest.job import load

        assert load(job).files
    elif verb == "sweep":
        from jetscale.axes import load

        (shape,) = {one.run.scale.shape for one in load(job).trials()}
        assert (ROOT / "cluster" / "shapes" / f"{shape}.yaml").is_file()
    elif verb == "study":
        from jetscale.conduct.samples import expected
        from jetscale.study import load

        study = load(job)
        for size in study.sizes.values():
            found = expected(study, size)
            shapes = {study.run(size, point, found).scale.shape for point in study.trainings(size)}
            assert {shape for shape in shapes if not (ROOT / "cluster" / "shapes" / f"{shape}.yaml").is_file()} == set()
    elif verb == "audit":
        from jetscale.audit.job import load, plan

        assert plan(load(job)).runs
    else:
        assert verb == "generate", f"no verb {verb!r}"
        from jetscale.data.generate import load

        assert load(job).events > 0
