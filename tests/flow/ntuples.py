"""Ntuples of a made-up analysis, written with uproot, and the job that converts them."""

import awkward as ak
import numpy as np
import uproot

from jetscale.data.ingest.job import load

MAP = {
    "tree": "Events",
    "columns": {
        "event": {"run": "run", "luminosity_block": "luminosityBlock", "event": "event", "ht": "HT"},
        "jet": {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi", "mass": "Jet_mass", "btag": "Jet_btag"},
    },
    "weight": {"generator": "genWeight", "factors": ["puWeight"]},
    "variations": {"pileup": {"puWeight": ["puWeightUp", "puWeightDown"]},
                   "jes": {"Jet_pt": ["Jet_pt_up", "Jet_pt_down"]}},
}  # fmt: skip


def made(n, seed=1, **changes):
    """Branches of n events; `changes` replace some, None leaves one out."""
    dice = np.random.default_rng(seed)
    counts = dice.integers(0, 9, n)

    def jets(low, high):
        return ak.unflatten(dice.uniform(low, high, counts.sum()).astype(np.float32), counts)

    pt = jets(20, 500)
    branches = {
        "run": np.full(n, 1, dtype=np.uint32), "luminosityBlock": np.arange(n, dtype=np.uint32) // 10,
        "event": np.arange(n, dtype=np.uint64) + 1000 * seed, "HT": ak.to_numpy(ak.sum(pt, axis=1)),
        "genWeight": dice.normal(1, 0.5, n).astype(np.float32), "puWeight": dice.uniform(0.5, 2, n).astype(np.float32),
        "puWeightUp": dice.uniform(1, 2, n).astype(np.float32),
        "puWeightDown": dice.uniform(0.5, 1, n).astype(np.float32),
        "Jet_pt": pt, "Jet_eta": jets(-2.5, 2.5), "Jet_phi": jets(-3.1, 3.1), "Jet_mass": jets(0, 30),
        "Jet_btag": jets(0, 1), "Jet_pt_up": pt * np.float32(1.1), "Jet_pt_down": pt * np.float32(0.9),
    }  # fmt: skip
    return {name: array for name, array in {**branches, **changes}.items() if array is not None}


def write(file, branches, tree="Events"):
    with uproot.recreate(file) as root:
        root.mktree(tree, {name: ak.type(array).content if isinstance(array, ak.Array) else array.dtype
                           for name, array in branches.items()})  # fmt: skip
        root[tree].extend(branches)
    return str(file)


def job(files, **given):
    return load(None, map=MAP, files=[str(file) for file in files], name="sample", **given)
