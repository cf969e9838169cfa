"""Energy flow polynomials: sums over a jet's particles, one for every multigraph of angles between them.

EFP_G = sum over particles i1 ... iN of z_i1 ... z_iN prod over edges (k, l) of theta_ikil^beta (Komiske, Metodiev,
Thaler, arXiv:1712.07124, eq. 1.1). Products of polynomials are polynomials of graphs that are not connected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain, permutations, product

import torch
from torch import Tensor

TINY = 1e-30  # a square that is taken no root of
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


@cache
def basis(most: int) -> tuple[tuple[Graph, ...], ...]:
    """All multigraphs of 1 to `most` edges, each as its connected parts."""
    every = tuple(graph for edges in range(1, most + 1) for graph in connected(edges))
    found = chain.from_iterable(_chosen(every, edges) for edges in range(1, most + 1))
    return tuple(sorted(found, key=lambda chosen: (sum(map(len, chosen)), len(chosen), chosen)))


def _chosen(graphs: tuple[Graph, ...], edges: int) -> Iterator[tuple[Graph, ...]]:
    """All choices of graphs, each as often as one likes, that have so many edges together."""
    if not edges:
        yield ()
    for place, graph in enumerate(graphs):
        if len(graph) <= edges:
            yield from ((graph, *rest) for rest in _chosen(graphs[place:], edges - len(graph)))


def polynomials(share_BP: Tensor, place_BP2: Tensor, graphs: Iterable[Graph], beta: float = 1.0) -> dict[Graph, Tensor]:
    """The polynomial of every connected graph, each (B,); shares of pt are 0 where padded."""
    angle_BPP = _angles(place_BP2, beta)
    powers: dict[int, Tensor] = {1: angle_BPP}
    found: dict[Graph, Tensor] = {}
    for graph in graphs:
        counts = {edge: graph.count(edge) for edge in sorted(set(graph))}
        for number in counts.values():
            if number not in powers:
                powers[number] = angle_BPP**number
        found[graph] = _contracted(
            share_BP, {edge: powers[number] for edge, number in counts.items()}, _vertices(graph)
        )
    return found


def _angles(place_BP2: Tensor, beta: float) -> Tensor:
    """Angles to the power of beta, (B, P, P): 0 between particles at one place, with a gradient of 0."""
    square_BPP = (place_BP2[:, :, None] - place_BP2[:, None]).square().sum(-1)
    return torch.where(square_BPP > 0, square_BPP.clamp_min(TINY) ** (beta / 2), 0.0)


def _contracted(share_BP: Tensor, edges: Mapping[tuple[int, int], Tensor], vertices: int) -> Tensor:
    """Sum vertices out one by one, that of fewest neighbours first: what it leaves is a factor on its neighbours.

    Factors on the same vertices are multiplied at once: so long as a vertex has two neighbours, no array is larger than
    (B, P, P).
    """
    factors: dict[tuple[int, ...], Tensor] = {(vertex,): share_BP for vertex in range(vertices)}
    factors.update(edges.items())
    left = set(range(vertices))
    while left:
        beside = {one: {v for names in factors if one in names for v in names} - {one} for one in left}
        vertex = min(left, key=lambda one: (len(beside[one]), one))
        left.remove(vertex)
        kept = tuple(sorted(beside[vertex]))
        summed = _summed({names: factors.pop(names) for names in list(factors) if vertex in names}, kept)
        factors[kept] = factors[kept] * summed if kept in factors else summed
    return factors[()]


def _summed(factors: Mapping[tuple[int, ...], Tensor], kept: tuple[int, ...]) -> Tensor:
    """The product of factors on some vertices, summed over the one that is not kept."""
    inputs: list[object] = []
    for names, tensor in sorted(factors.items(), key=lambda one: len(one[0])):
        inputs += [tensor, [0, *(1 + v for v in names)]]
    out: Tensor = torch.einsum(*inputs, [0, *(1 + v for v in kept)])
    return out


def _vertices(graph: Graph) -> int:
    return 1 + max((max(edge) for edge in graph), default=0)


def _normal(graph: Graph) -> Graph:
    """The smallest of all namings of the vertices in which those of more edges come first."""
    alike: dict[int, list[int]] = {}
    for vertex in range(_vertices(graph)):
        alike.setdefault(-sum(vertex in edge for edge in graph), []).append(vertex)
    orders = product(*(permutations(alike[degree]) for degree in sorted(alike)))
    names = ({old: new for new, old in enumerate(chain.from_iterable(order))} for order in orders)
    return min(tuple(sorted((min(of[k], of[m]), max(of[k], of[m])) for k, m in graph)) for of in names)
