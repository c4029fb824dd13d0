"""What a model costs: how long an image takes, how large the file is, and whether it computes what was trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.model.inference import Classifier

MAX_DIFFERENCE = 1e-4  # of two probabilities, torch's and ONNX Runtime's
WARM_UP = 3  # runs that are not counted: the first ones allocate
ROUNDS = 31  # runs that are counted, of each model in turn
LEAST_ROUNDS = 3
MOST_SECONDS = 10.0  # of one measurement; a large network is timed less often


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What one model costs on this machine.

    Attributes:
        latency_ms: Time that one processor computes on one image alone, milliseconds.
        batch_ms: Wall clock of an image in a batch, milliseconds.
        batch_size: Images of that batch.
        threads: Threads that batches were computed with.
        rounds: Runs that the shortest is of: whatever else the machine does makes runs longer, never shorter.
        megabytes: Size of the ONNX file, 10⁶ bytes.
        difference: Largest difference of two probabilities, torch's and ONNX Runtime's, when it was exported; None
            where nobody has compared them.
    """

    latency_ms: float
    batch_ms: float
    batch_size: int
    threads: int
    rounds: int
    megabytes: float
    difference: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @property
    def how(self) -> str:
        """How the times were measured, in words."""
        return (
            f"shortest of {self.rounds} runs of the ONNX file, after {WARM_UP} that are not counted, models in turn: "
            f"processor time of one image, wall clock of batches in {self.threads} threads; without decoding and "
            "preprocessing"
        )


def measure(
    classifiers: Mapping[str, Classifier],
    pixels: Mapping[str, npt.NDArray[np.uint8]],
    batch_size: int,
    differences: Mapping[str, float | None],
) -> dict[str, Footprint]:
    """Time models on prepared images: who → (n, size, size, 3) uint8 of their own size, n at least 1.

    The gate compares what one image takes, so that is the time which one thread was computing: a machine that is busy
    with something else made the wall clock of the same network three times as long in one file as in another, though
    they took turns.
    """
    batches = {who: np.ascontiguousarray(pixels[who][:batch_size]) for who in classifiers}
    alone = {who: Classifier(classifier.path, threads=1) for who, classifier in classifiers.items()}
    single, rounds = _time(alone, {who: batch[:1] for who, batch in batches.items()}, time.thread_time)
    many, batch_rounds = _time(classifiers, batches, time.perf_counter)
    return {
        who: Footprint(
            latency_ms=1000 * single[who],
            batch_ms=1000 * many[who] / len(batches[who]),
            batch_size=len(batches[who]),
            threads=classifier.threads,
            rounds=min(rounds, batch_rounds),
            megabytes=classifier.path.stat().st_size / 1e6,
            difference=differences.get(who),
        )
        for who, classifier in classifiers.items()
    }


def _time(
    classifiers: Mapping[str, Classifier],
    batches: Mapping[str, npt.NDArray[np.uint8]],
    clock: Callable[[], float],
) -> tuple[dict[str, float], int]:
    """Seconds of the shortest run of each model on its batch, and how many runs it is of."""
    taken: dict[str, list[float]] = {who: [] for who in classifiers}
    begun = time.perf_counter()
    for number in range(WARM_UP + ROUNDS):
        for who, classifier in classifiers.items():
            start = clock()
            classifier.run(batches[who], len(batches[who]))
            if number >= WARM_UP:
                taken[who].append(clock() - start)
        if number + 1 >= WARM_UP + LEAST_ROUNDS and time.perf_counter() - begun > MOST_SECONDS:
            break
    return {who: min(times) for who, times in taken.items()}, number + 1 - WARM_UP
