"""Small real images for tests: scikit-learn's handwritten digits as PNG files, plain or from another scanner."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache

import numpy as np
from PIL import Image, ImageFilter

from pipeline.settings import Settings
from pipeline.storage.objects import ObjectStore

# Small enough for a test, real all the same: three digits, a small network, few epochs.
STREAM = """
labels: folder
classes: [0, 1, 4]
schedule: null
holdout: {share: 0.35}
model: {architecture: resnet10t, image_size: 32}
train: {epochs: 6, batch_size: 16, learning_rate: 0.002, patience: 6, threads: 2}
drift: {min_images: 12, alpha: 0.01, permutations: 199}
reference: {min_images: 20}
gate: {min_holdout: 10}
score: {shard_images: 40, batch_size: 16}
"""


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    # As they come, one writer's digits follow another's: a night of other writers would be a drift, and found.
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(data.target))
    return (data.images[order] * (255 / 16)).astype(np.uint8), data.target[order]


def scans(digit: int, start: int, stop: int, *, changed: bool = False) -> list[bytes]:
    """PNG files of one digit, the start-th to the stop-th scan, 32 × 32."""
    images, targets = _digits()
    chosen = images[targets == digit][start:stop]
    assert len(chosen) == stop - start
    return [_png(image, changed=changed) for image in chosen]


def _png(scan: np.ndarray, *, changed: bool) -> bytes:
    image = Image.fromarray(scan).resize((32, 32), Image.Resampling.BICUBIC)
    if changed:
        blurred = image.rotate(12, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))
        image = Image.fromarray((255 - np.asarray(blurred)).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def upload(
    settings: Settings, prefix: str, start: int, stop: int, *, digits: Iterable[int] = (0, 1, 4), changed: bool = False
) -> int:
    """Upload the start-th to stop-th scan of each digit into class folders under a prefix; returns how many."""
    store = ObjectStore.from_settings(settings)
    count = 0
    for digit in digits:
        for number, data in enumerate(scans(digit, start, stop, changed=changed), start):
            store.put_image(f"{prefix}{digit}/{number}.png", data, "image/png")
            count += 1
    return count
