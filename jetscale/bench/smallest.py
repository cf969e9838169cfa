"""The smallest training with Ray Train, Ray Data and DeepSpeed: what `jetscale train` is compared with at its start.

Run as a script with the file to touch after the first step, and a folder of Parquet to read from; it imports what a
training of jetscale imports, and nothing of jetscale.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import pyarrow.parquet as pq
import pydantic
import ray
import ray.data
import ray.train
import torch
import yaml
from ray.train.torch import TorchConfig, TorchTrainer
from safetensors.torch import save_file

IMPORTED = (np, pq, pydantic, yaml, save_file)
SETTINGS = {
    "train_micro_batch_size_per_gpu": 1,
    "zero_optimization": {"stage": 1},
    "zero_allow_untested_optimizer": True,
    "steps_per_print": 1 << 30,
}


def compile_nothing() -> None:
    """Leave out what DeepSpeed would compile for inference, for minutes."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def one_step(config: dict[str, str]) -> None:
    """One step of a linear network on the first batch of the stream."""
    compile_nothing()
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    net = torch.nn.Linear(1, 1)
    engine, *_ = deepspeed.initialize(
        model=net, optimizer=torch.optim.AdamW(net.parameters()), config=SETTINGS, dist_init_required=False
    )
    batches = ray.train.get_dataset_shard("train").iter_torch_batches(batch_size=256)
    batch = next(iter(batches))
    engine.backward(engine(batch["weight"].float()[:, None]).mean())
    engine.step()
    Path(config["done"]).touch()


def main(done: str, folder: str, cpus: int, store: int) -> Any:
    """Start Ray on this machine and train."""
    ray.init(address="local", num_cpus=cpus, object_store_memory=store, include_dashboard=False)
    trainer = TorchTrainer(
        one_step,
        train_loop_config={"done": done},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(name="smallest", storage_path=str(Path(done).parent.absolute() / "ray")),
        datasets={"train": ray.data.read_parquet(folder, columns=["weight"])},
    )
    return trainer.fit()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
