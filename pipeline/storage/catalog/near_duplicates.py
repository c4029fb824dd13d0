"""Groups of near duplicates, and one split for each of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pipeline.records import Split
from pipeline.storage.sql import queries


def group(cursor: Any, fresh: Mapping[int, Split], hashed: Collection[int], bits: int) -> int:
    """Put new images into groups with whatever has a perceptual hash within some bits of theirs.

    An image that resembles images of two groups joins these into one. A group stands in training as soon as one of its
    images was there before: what a model may have seen is no holdout, nor is what looks just like it.

    Args:
        cursor: Inside the transaction that inserted the images.
        fresh: The new images' ids with their splits by content.
        hashed: Ids of images from before that have got their hash only now.
        bits: Largest Hamming distance of two hashes of 64 bits.

    Returns:
        How many images that were there before left the holdout.
    """
    if not fresh and not hashed:
        return 0
    new = sorted(fresh)
    ids = sorted({*fresh, *hashed})
    edges = [(row["id"], row["near_group"] or row["other"]) for row in _rows(cursor, "twins", ids=ids)]
    settled = {image for image, _ in edges}
    alone = [image for image in ids if image not in settled]
    edges += [
        (row["id"], row["near_group"] or row["other"]) for row in _rows(cursor, "neighbours", ids=alone, bits=bits)
    ]
    groups = _components(edges)
    roots = sorted({root for members in groups for root in members if root not in fresh})
    in_training = {row["root"]: row["training"] for row in _rows(cursor, "splits_of_groups", roots=roots)}
    moved = 0
    for members in groups:
        first = min(members)
        known = {root: in_training[root] for root in members if root in in_training}
        split: Split = ("training" if any(known.values()) else "holdout") if known else fresh[first]
        absorbed = [root for root, training in known.items() if root != first or training != (split == "training")]
        values = {"group": first, "split": split, "members": sorted(members), "absorbed": absorbed, "ids": new}
        (row,) = _rows(cursor, "join_group", **values)
        moved += row["moved"]
    return moved


def _components(edges: Iterable[tuple[int, int]]) -> list[set[int]]:
    """Connected components of two nodes or more."""
    parent: dict[int, int] = {}

    def find(node: int) -> int:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in edges:
        parent[find(a)] = find(b)
    components: dict[int, set[int]] = {}
    for node in parent:
        components.setdefault(find(node), set()).add(node)
    return [members for members in components.values() if len(members) > 1]


def _rows(cursor: Any, name: str, **values: Any) -> list[dict[str, Any]]:
    cursor.execute(queries("ingest")[name], values)
    return [dict(row) for row in cursor.fetchall()]
