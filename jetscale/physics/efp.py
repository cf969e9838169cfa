"""Energy flow polynomials: sums over a jet's particles, one for every multigraph of angles between them.

EFP_G = sum over particles i1 ... iN of z_i1 ... z_iN prod over edges (k, l) of theta_ikil^beta (Komiske, Metodiev,
Thaler, arXiv:1712.07124, eq. 1.1). Products of polynomials are polynomials of graphs that are not connected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import combinations_with_replacement, permutations

import torch
from torch import Tensor

Graph = tuple[tuple[int, int], ...]  # edges between vertices 0, 1, ..., each with the smaller one first


@cache
def connected(edges: int) -> tuple[Graph, ...]:
    """All connected multigraphs without loops of so many edges, one of each shape, in a fixed order."""
    if edges == 0:
        return ((),)
    found: dict[Graph, None] = {}
    for smaller in connected(edges - 1):
        vertices = 1 + max((max(edge) for edge in smaller), default=0)
        old = [(k, m) for m in range(vertices) for k in range(m)]
        new = [(k, vertices) for k in range(vertices)]
        for edge in (*old, *new):
            found[_normal((*smaller, edge))] = None
    return tuple(sorted(found, key=lambda graph: (_vertices(graph), graph)))


def basis(most: int) -> tuple[tuple[Graph, ...], ...]:
    """All multigraphs of 1 to `most` edges, each as its connected parts."""
    every = [graph for edges in range(1, most + 1) for graph in connected(edges)]
    found: list[tuple[Graph, ...]] = []
    for parts in range(1, most + 1):
        for chosen in combinations_with_replacement(every, parts):
            if sum(map(len, chosen)) <= most:
                found.append(chosen)
    return tuple(sorted(found, key=lambda chosen: (sum(map(len, chosen)), len(chosen), chosen)))


def polynomials(share_BP: Tensor, place_BP2: Tensor, graphs: Iterable[Graph], beta: float = 1.0) -> dict[Graph, Tensor]:
    """The polynomial of every connected graph, each (B,); shares of pt are 0 where padded."""
    angle_BPP = _angles(place_BP2) ** beta
    powers: Mapping[int, Tensor] = {1: angle_BPP}
    found: dict[Graph, Tensor] = {}
    for graph in graphs:
        counts = {edge: graph.count(edge) for edge in sorted(set(graph))}
        for number in counts.values():
            if number not in powers:
                powers = {**powers, number: angle_BPP**number}
        found[graph] = _contracted(
            share_BP, {edge: powers[number] for edge, number in counts.items()}, _vertices(graph)
        )
    return found


def _angles(place_BP2: Tensor) -> Tensor:
    away_BPP2 = place_BP2[:, :, None] - place_BP2[:, None]
    return away_BPP2.square().sum(-1).clamp_min(1e-16).sqrt()


def _contracted(share_BP: Tensor, edges: Mapping[tuple[int, int], Tensor], vertices: int) -> Tensor:
    """Sum vertices out one by one, that of fewest neighbours first: what it leaves is a factor on its neighbours."""
    factors: list[tuple[tuple[int, ...], Tensor]] = [((vertex,), share_BP) for vertex in range(vertices)]
    factors += [(edge, angle) for edge, angle in edges.items()]
    left = set(range(vertices))
    while left:
        beside = {one: {v for names, _ in factors if one in names for v in names} - {one} for one in left}
        vertex = min(left, key=lambda one: (len(beside[one]), one))
        touching = [factor for factor in factors if vertex in factor[0]]
        kept = tuple(sorted(beside[vertex]))
        inputs: list[object] = []
        for names, tensor in touching:
            inputs += [tensor, [0, *(1 + v for v in names)]]
        summed = torch.einsum(*inputs, [0, *(1 + v for v in kept)])
        factors = [factor for factor in factors if vertex not in factor[0]] + [(kept, summed)]
        left.remove(vertex)
    out = factors[0][1]
    for _, other in factors[1:]:
        out = out * other
    return out


def _vertices(graph: Graph) -> int:
    return 1 + max((max(edge) for edge in graph), default=0)


def _normal(graph: Graph) -> Graph:
    """The smallest of all namings of the vertices."""
    vertices = _vertices(graph)
    return min(
        tuple(sorted((min(names[k], names[m]), max(names[k], names[m])) for k, m in graph))
        for names in permutations(range(vertices))
    )
