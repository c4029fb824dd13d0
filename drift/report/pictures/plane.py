"""Batch and reference in two dimensions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.report.content import Sample
from drift.report.pictures.axes import BOX

log = logging.getLogger(__name__)

POINTS = 700  # of each set
SEEN = (0.5, 99.5)  # percentiles that the picture spans; what lies outside is put at its edge
MARGIN = 12
SMALL = 50  # rows or dimensions

Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ring:
    """An image of the gallery: where its dot is, and its number there."""

    x: float
    y: float
    number: int
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scatter:
    """Two sets of points, each as one SVG path of dots.

    Attributes:
        reference: Path of the reference.
        current: Path of the batch.
        shown: How many dots of each there are.
        method: How the two dimensions were found: PCA or UMAP.
        explained: Share of the variance that they hold; None for UMAP.
        rings: The images of the gallery.
    """

    reference: str
    current: str
    shown: tuple[int, int]
    method: str
    explained: float | None
    rings: tuple[Ring, ...]


def scatter(reference: Float32 | None, current: Float32 | None, samples: Sequence[Sample] = ()) -> Scatter | None:
    """Place embeddings, (n, d) and (m, d), in the plane: by UMAP where it is installed, else by principal components.

    Of large sets a part is drawn; the images of the gallery are always in it.
    """
    if reference is None or current is None or reference.shape[1] < 2:
        return None
    numbered = {
        sample.row: number
        for number, sample in enumerate(samples, 1)
        if sample.row is not None and 0 <= sample.row < len(current)
    }
    rows = np.union1d(_thinned(len(current)), np.array(sorted(numbered), dtype=np.intp))
    first, second = reference[_thinned(len(reference))], current[rows]
    points = np.concatenate([first, second]).astype(np.float64)
    points -= points.mean(axis=0)
    if not points.any():
        return None
    plane, explained = _umap(points), None
    if plane is None:
        plane, explained = _principal(points)
    drawn = _fitted(plane)
    then, now = drawn[: len(first)], drawn[len(first) :]
    rings = [
        Ring(
            x=float(now[index, 0]),
            y=float(now[index, 1]),
            number=numbered[row],
            title=f"{numbered[row]}: {samples[numbered[row] - 1].label}, {samples[numbered[row] - 1].key}",
        )
        for index, row in enumerate(rows.tolist())
        if row in numbered
    ]
    return Scatter(
        reference=_dots(then),
        current=_dots(now),
        shown=(len(first), len(second)),
        method="UMAP" if explained is None else "PCA",
        explained=explained,
        rings=tuple(sorted(rings, key=lambda ring: ring.number)),
    )


def _thinned(rows: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, rows - 1, min(rows, POINTS)).astype(np.intp))


def _principal(points: FloatArray) -> tuple[FloatArray, float]:
    """(k, d) centred → (k, 2) leading principal components, and the share of the variance that they hold."""
    from scipy.sparse.linalg import svds

    if min(points.shape) <= SMALL:
        left, sizes, _ = np.linalg.svd(points, full_matrices=False)
    else:  # all components would take a hundred times as long as these two
        start = np.random.Generator(np.random.PCG64(0)).normal(size=min(points.shape))
        left, sizes, _ = svds(points, k=2, v0=start, tol=1e-6)
    leading = np.argsort(-sizes)[:2]
    plane = left[:, leading] * sizes[leading]
    # The sign of a component is arbitrary; fixed, so that equal inputs give equal pages.
    plane = plane * np.where(plane[np.abs(plane).argmax(axis=0), np.arange(2)] < 0, -1.0, 1.0)
    return plane, float(np.square(sizes[leading]).sum() / np.square(points).sum())


def _umap(points: FloatArray) -> FloatArray | None:
    """(k, d) → (k, 2) by UMAP (McInnes et al. 2018); None where it is not installed or finds no answer."""
    try:
        from umap import UMAP  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    try:
        plane = np.asarray(UMAP(n_components=2, random_state=0, n_jobs=1).fit_transform(points), dtype=np.float64)
    except Exception as error:  # noqa: BLE001 - whatever a picture's optional helper trips over, there is another way
        log.warning("UMAP failed, principal components are drawn instead: %s", error)
        return None
    return plane if plane.shape == (len(points), 2) and np.isfinite(plane).all() else None


def _fitted(plane: FloatArray) -> FloatArray:
    """Points in the picture's units, both axes to one scale."""
    low, high = np.percentile(plane, SEEN, axis=0)
    span = np.maximum(high - low, 1e-9 * max(float(np.abs(plane).max()), 1e-300))
    room = np.array([BOX.width - 2 * MARGIN, BOX.height - 2 * MARGIN])
    scale = float((room / (1.1 * span)).min())
    centred = (plane - (low + high) / 2) * scale * (1, -1)
    middle = np.array([BOX.width, BOX.height]) / 2
    return np.clip(centred, -room / 2, room / 2) + middle


def _dots(points: FloatArray) -> str:
    """(k, 2) → path data: a line of no length at each point, which round line caps make a dot."""
    return "".join(f"M{x:.0f} {y:.0f}h0" for x, y in points)
