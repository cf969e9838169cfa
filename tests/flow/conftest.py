"""One Ray for all tests that need one."""

import os
import secrets
from collections.abc import Iterator

import pytest

from jetscale.data.cluster import cluster
from jetscale.shape import shape


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """A local Ray, the one that a laptop would have, of a user with a key for Weights & Biases."""
    os.environ["WANDB_API_KEY"] = secrets.token_hex(20)
    with cluster(shape("laptop")):
        yield
