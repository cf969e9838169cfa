"""The Particle Transformer with the weights of weaver-core's gives weaver-core's outputs."""

import logging

import numpy as np
import pytest
import torch

from jetscale.data.batch import batch
from jetscale.systems.particle_transformer import ParticleTransformer
from jetscale.task import At

pytestmark = pytest.mark.reference
reference = pytest.importorskip("weaver.nn.model.ParticleTransformer", reason="needs weaver-core")

LAYERS = {"before_attention": "pre_attn_norm", "after_attention": "post_attn_norm", "three": "attn.in_proj",
          "mixed": "attn.out_proj", "before_forward": "pre_fc_norm", "after_forward": "post_fc_norm", "wide": "fc1",
          "narrow": "fc2"}  # fmt: skip


def theirs(task: ParticleTransformer, features: int) -> torch.nn.Module:
    logging.disable(logging.INFO)
    torch.manual_seed(5)
    net = reference.ParticleTransformer(features, len(task.classes), pair_input_dim=4, use_pre_activation_pair=False,
                                        embed_dims=task.embed, pair_embed_dims=task.pair_embed,
                                        num_heads=task.heads, num_layers=task.blocks, num_cls_layers=task.class_blocks,
                                        trim=False)  # fmt: skip
    logging.disable(logging.NOTSET)
    dice = torch.Generator().manual_seed(6)
    for name, one in net.state_dict().items():
        if "running_mean" in name or name.endswith("bias") or name == "cls_token":
            one.copy_(torch.randn(one.shape, generator=dice) * 0.2)
        elif "running_var" in name or name.endswith(("c_attn", "w_resid")) or "norm.weight" in name:
            one.copy_(torch.rand(one.shape, generator=dice) + 0.5)
    return net.double().eval()


def mapped(weights: dict[str, torch.Tensor], task: ParticleTransformer) -> dict[str, torch.Tensor]:
    """Their weights under our names."""

    def both(new: str, old: str) -> dict[str, torch.Tensor]:
        # A convolution over one place is a matrix.
        return {f"{new}.weight": weights[f"{old}.weight"].flatten(1).squeeze(-1) if weights[f"{old}.weight"].ndim == 3
                else weights[f"{old}.weight"], f"{new}.bias": weights[f"{old}.bias"]}  # fmt: skip

    def norm(new: str, old: str) -> dict[str, torch.Tensor]:
        moments = {"mean_C": "running_mean", "variance_C": "running_var"}
        return both(new, old) | {f"{new}.{name}": weights[f"{old}.{was}"] for name, was in moments.items()}

    found = norm("norm", "embed.input_bn") | norm("pairs.norms.0", "pair_embed.embed.0")
    for number in range(len(task.embed)):
        for part in (0, 1):
            found |= both(f"embed.{number}.{part}", f"embed.embed.{3 * number + part}")
    for number in range(len(task.pair_embed) + 1):
        found |= both(f"pairs.layers.{number}", f"pair_embed.embed.{3 * number + 1}")
        found |= norm(f"pairs.norms.{number + 1}", f"pair_embed.embed.{3 * number + 2}")
    for new, old, blocks in (("blocks", "blocks", task.blocks), ("class_blocks", "cls_blocks", task.class_blocks)):
        for number in range(blocks):
            for name, was in LAYERS.items():
                found |= both(f"{new}.{number}.{name}", f"{old}.{number}.{was}")
            found |= {f"{new}.{number}.of_head": weights[f"{old}.{number}.c_attn"],
                      f"{new}.{number}.of_residual": weights[f"{old}.{number}.w_resid"]}  # fmt: skip
    return found | both("last", "norm") | both("dense", "fc.0") | {"token_C": weights["cls_token"].flatten()}


@pytest.mark.parametrize("features", ["kinematics", "full"])
def test_outputs_agree_on_jets_of_all_sizes(features: str) -> None:
    task = ParticleTransformer(features=features, classes={"qcd": ["qcd"], "rest": ["top", "h_4q", "w"]})
    n = 60
    seen = batch(
        [task.toy(n, 3)], task.columns, np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n), At(0, 0, 0.0), 1
    )
    jet, particle, mask = (one.double() if one.is_floating_point() else one for one in task.tensors(seen))
    # Jets of one particle and of many, and gaps between them.
    most = torch.tensor([1 + i % 40 for i in range(n)])[:, None]
    mask = mask & (torch.arange(mask.shape[1]) < most) & (torch.arange(mask.shape[1]) % 7 != 3)
    net = task.build(1).double()
    other = theirs(task, len(net.scaled.names))
    missing = net.load_state_dict(mapped(other.state_dict(), task), strict=False)
    assert not missing.unexpected_keys and all(name.startswith("scaled.") for name in missing.missing_keys)
    net.eval()
    cloud = net.scaled(jet, particle, mask)
    with torch.no_grad():
        wanted = other(cloud.features_BPC.mT, cloud.p4_BP4[..., [1, 2, 3, 0]].mT, mask[:, None])
        assert mask.sum(1).min() == 1 and mask.sum(1).max() > 15
        assert torch.allclose(net(jet, particle, mask), wanted, atol=1e-6, rtol=0)
        assert not torch.allclose(wanted[:-1], wanted[1:], atol=1e-3)
