"""One Ray for all tests that need one."""

from collections.abc import Iterator

import pytest

from jetscale.data.cluster import cluster
from jetscale.shape import shape


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """A local Ray, the one that a laptop would have."""
    with cluster(shape("laptop")):
        yield
