"""Draws of a reference and of batches from one set of images, with and without a shift; equal for every test."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

import drift
from pipeline.images.changes import CHANGES
from tests.benchmarks.power.embeddings import Embeddings
from tests.benchmarks.power.peers import Samples
from tests.benchmarks.power.shifts import NEAR_COPIES, REHEARSED_STRENGTHS, Shift

PLAIN, STRATIFIED, BURSTS = "plain", "stratified", "bursts"
KINDS = (PLAIN, STRATIFIED, BURSTS)
NULL = Shift("none", False)


@dataclass(frozen=True, eq=False)
class Rows:
    """Images of one sample, in the order in which they were drawn: ``index`` (k,) and ``frame`` (k,) of a burst."""

    index: np.ndarray
    frame: np.ndarray

    def first(self, count: int) -> Rows:
        """The sample that so many images make."""
        return Rows(self.index[:count], self.frame[:count])


class Draw:
    """One reference and the images left for batches. Batches of one draw are nested: 20 of the 50 of the 100 …

    plain       uniformly at random
    stratified  every stretch of the images has the classes' shares in the set
    bursts      images come with up to three near duplicates, whose groups are known
    """

    def __init__(self, embeddings: Embeddings, strangers: Embeddings, kind: str, reference: int, number: int) -> None:
        self._embeddings, self._strangers = embeddings, strangers
        self.kind, self.number = kind, number
        rng = np.random.Generator(np.random.PCG64([number, reference, zlib.crc32(kind.encode())]))
        classes = embeddings.images.classes
        order = _stratified(classes, rng) if kind == STRATIFIED else rng.permutation(len(classes))
        rows = _bursts(order, rng) if kind == BURSTS else Rows(order, np.zeros_like(order))
        self._reference = rows.first(reference)
        apart = ~np.isin(rows.index, self._reference.index)
        self._rest = Rows(rows.index[apart], rows.frame[apart])
        self._missing = rng.permutation(len(np.unique(classes)))
        self._strange = rng.permutation(len(strangers.images))

    def samples(self, shift: Shift, size: int) -> Samples:
        """The reference, and a batch of so many images under a shift."""
        rest = self._rest
        if shift.classes_out:
            kept = ~np.isin(self._embeddings.images.classes[rest.index], self._missing[: shift.classes_out])
            rest = Rows(rest.index[kept], rest.frame[kept])
        batch = rest.first(size)
        if len(batch.index) < size:
            raise SystemExit(f"{len(self._embeddings.images)} images are too few for batches of {size}")
        current, predicted = self._outputs(batch)
        changed = max(1, round(shift.share * size))
        if shift.foreign:
            strange = self._strange[:changed]
            current[:changed] = self._strangers.of()[strange]
            predicted[:changed] = self._strangers.probabilities()[strange]
        elif shift.change != "clean":
            current[:changed], predicted[:changed] = self._outputs(batch.first(changed), shift.change, shift.strength)
        reference, reference_predicted = self._outputs(self._reference)
        classes = self._embeddings.images.classes
        bursts, stratified = self.kind == BURSTS, self.kind == STRATIFIED
        return Samples(
            reference=reference,
            current=current,
            reference_groups=self._reference.index if bursts else None,
            current_groups=batch.index if bursts else None,
            reference_strata=classes[self._reference.index] if stratified else None,
            current_strata=classes[batch.index] if stratified else None,
            reference_probabilities=reference_predicted,
            current_probabilities=predicted,
            rehearsal=lambda: self.rehearsal,
            seed=self.number,
        )

    @cached_property
    def rehearsal(self) -> drift.Rehearsal:
        """Every change at full strength and faint, rehearsed on a part of the reference as at a promotion."""
        groups = self._reference.index if self.kind == BURSTS else None
        learnt = drift.rows_to_rehearse(len(self._reference.index), groups=groups, seed=self.number)
        rows = Rows(self._reference.index[learnt], self._reference.frame[learnt])
        changed, faint = (
            {name: self._outputs(rows, name, strength)[0] for name in CHANGES} for strength in REHEARSED_STRENGTHS
        )
        clean = self._outputs(self._reference)[0]
        return drift.rehearse(clean, changed, faint=faint, rows=learnt, groups=groups, seed=self.number)

    def _outputs(self, rows: Rows, change: str = "clean", strength: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """(k, d) embeddings and (k, c) probabilities of some images under one change."""
        parts = []
        for frame in np.unique(rows.frame).tolist():
            variant = (change, strength, frame)
            outputs = self._embeddings.of(*variant), self._embeddings.probabilities(*variant)
            parts.append((rows.frame == frame, *outputs))
        embeddings = np.empty((len(rows.frame), parts[0][1].shape[1]), dtype=np.float32)
        probabilities = np.empty((len(rows.frame), parts[0][2].shape[1]), dtype=np.float32)
        for here, embedded, predicted in parts:
            embeddings[here], probabilities[here] = embedded[rows.index[here]], predicted[rows.index[here]]
        return embeddings, probabilities


def variants(shifts: Sequence[Shift], *, bursts: bool) -> list[tuple[str, float, int]]:
    """Change, strength and frame of all embeddings that draws may ask for."""
    rehearsed = [("clean", 0.0), *((name, strength) for strength in REHEARSED_STRENGTHS for name in CHANGES)]
    wanted = {(name, strength, frame) for name, strength in rehearsed for frame in range(1 + NEAR_COPIES * bursts)}
    wanted |= {(shift.change, shift.strength, 0) for shift in shifts}
    return sorted(wanted)


def _stratified(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices in an order of which every stretch has all classes at their shares, to within one image of each."""
    order = rng.permutation(len(classes))
    place = np.empty(len(classes))
    for name in np.unique(classes):
        members = order[classes[order] == name]
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def _bursts(order: np.ndarray, rng: np.random.Generator) -> Rows:
    """Each image with up to three more frames of itself, next to it."""
    frames = rng.integers(1, 2 + NEAR_COPIES, size=len(order))
    return Rows(np.repeat(order, frames), np.concatenate([np.arange(count) for count in frames]))
