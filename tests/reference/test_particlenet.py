"""ParticleNet with the weights of weaver-core's gives weaver-core's outputs."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from jetscale.config import Values
from jetscale.data.batch import batch
from jetscale.systems.particlenet import ParticleNet, recipe
from jetscale.task import At, find

pytestmark = pytest.mark.reference
reference = pytest.importorskip("weaver.nn.model.ParticleNet", reason="needs weaver-core")


def theirs(task: ParticleNet, features: int) -> torch.nn.Module:
    k, blocks, dense = task.as_built
    logging.disable(logging.INFO)
    torch.manual_seed(5)
    net = reference.ParticleNet(features, len(task.classes), [(k, block) for block in blocks], [(dense, 0.1)],
                                use_fusion=task.fusion, use_fts_bn=True, use_counts=True, trim=False)  # fmt: skip
    logging.disable(logging.NOTSET)
    dice = torch.Generator().manual_seed(6)
    for name, one in net.state_dict().items():
        if "running_mean" in name or name.endswith("bias"):
            one.copy_(torch.randn(one.shape, generator=dice) * 0.2)
        elif "running_var" in name or ("bn" in name and name.endswith("weight")):
            one.copy_(torch.rand(one.shape, generator=dice) + 0.5)
    return net.double().eval()


def mapped(weights: dict[str, torch.Tensor], task: ParticleNet) -> dict[str, torch.Tensor]:
    """Their weights under our names."""

    def norm(old: str) -> dict[str, torch.Tensor]:
        names = {"weight": "weight", "bias": "bias", "mean_C": "running_mean", "variance_C": "running_var"}
        return {new: weights[f"{old}.{name}"] for new, name in names.items()}

    found = {f"norm.{name}": one for name, one in norm("bn_fts").items()}
    for number, (_, block) in enumerate((0, one) for one in task.as_built.channels):
        old, new = f"edge_convs.{number}", f"blocks.{number}"
        for layer in range(len(block)):
            bn = norm(f"{old}.bns.{layer}")
            found |= {f"{new}.weight_{layer}": weights[f"{old}.convs.{layer}.weight"][..., 0, 0],
                      f"{new}.scale_{layer}": bn["weight"], f"{new}.shift_{layer}": bn["bias"],
                      f"{new}.moments_{layer}": torch.stack([bn["mean_C"], bn["variance_C"]])}  # fmt: skip
        if f"{old}.sc.weight" in weights:
            found[f"{new}.shortcut.weight"] = weights[f"{old}.sc.weight"][..., 0]
            found |= {f"{new}.norm.{name}": one for name, one in norm(f"{old}.sc_bn").items()}
    if task.fusion:
        found["fusion.weight"] = weights["fusion_block.0.weight"][..., 0]
        found |= {f"fusion_norm.{name}": one for name, one in norm("fusion_block.1").items()}
    for ours, old in (("dense.0", "fc.0.0"), ("dense.1", "fc.1")):
        found |= {f"{ours}.{name}": weights[f"{old}.{name}"] for name in ("weight", "bias")}
    return found


SIZES: dict[str, Values] = {
    "lite": {"size": "lite"},
    "full": {},
    "own": {"k": 5, "channels": ((24,), (32, 16), (16, 48, 40)), "dense": 20},
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fusion", [False, True])
def test_outputs_agree_on_jets_of_all_sizes(size: str, fusion: bool) -> None:
    task = ParticleNet(fusion=fusion, classes={"qcd": ["qcd"], "rest": ["top", "h_4q", "w"]}, **SIZES[size])
    n = 120
    seen = batch(
        [task.toy(n, 3)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n), At(0, 0, 0.0), 1
    )
    jet, particle, mask = (one.double() if one.is_floating_point() else one for one in task.tensors(seen))
    # More jets of fewer particles than neighbours, and none without any, whom the reference does not know.
    mask = mask & (torch.arange(mask.shape[1]) < torch.tensor([1 + i % 30 for i in range(n)])[:, None])
    net = task.build(1).double()
    other = theirs(task, len(net.scaled.names))
    missing = net.load_state_dict(mapped(other.state_dict(), task), strict=False)
    assert not missing.unexpected_keys and all(name.startswith("scaled.") for name in missing.missing_keys)
    net.eval()
    cloud = net.scaled(jet, particle, mask)
    # Its input must have more slots than neighbours.
    pad = torch.nn.functional.pad
    points, features = (pad(one, (0, 0, 0, 17)).mT for one in (cloud.points_BP2, cloud.features_BPC))
    with torch.no_grad():
        wanted = other(points, features, pad(mask, (0, 17))[:, None])
        assert mask.sum(1).min() < task.as_built.k < mask.sum(1).max()
        assert torch.allclose(net(jet, particle, mask), wanted, atol=1e-6, rtol=0)
        assert not torch.allclose(wanted[:-1], wanted[1:], atol=1e-3)


def test_fresh_it_is_the_same_network_in_the_same_training() -> None:
    other = find(str(Path(__file__).with_name("weaver_particlenet.py")))
    task, same = ParticleNet(size="lite"), other.task()
    n, zeros = 60, np.zeros(60, dtype=np.int64)
    seen = batch([task.toy(n, 3)], task.columns, np.ones(n), zeros, np.arange(n), At(0, 0, 0.0), 1)
    logging.disable(logging.INFO)
    ours, theirs = (one.build(7).eval()(*one.tensors(seen)) for one in (task, same))
    logging.disable(logging.NOTSET)
    assert torch.allclose(ours, theirs, atol=1e-5, rtol=0)
    assert ours.std(0).min() > 1e-3
    assert other.recipe() == {key: value for key, value in recipe().items() if key != "system"}
