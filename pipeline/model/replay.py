"""Which labelled images a training run uses: all that is new, and as many old ones as keep it from forgetting."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.records import Image


def choose(
    images: Sequence[Image], *, new_since: int, window: int | None, replay: int | None
) -> tuple[list[Image], list[Image]]:
    """The new and the old images that training uses, of those it may use.

    New are those of batches above ``new_since``. Of more than ``window`` new ones the newest are taken, of more than
    ``replay`` old ones a part in which every class has its share; within a class the content's hash decides, which is
    as good as drawn by lot and the same each time. None stands for all.
    """
    new = sorted(
        (image for image in images if image.batch_id > new_since), key=lambda image: (image.batch_id, image.id)
    )
    old = [image for image in images if image.batch_id <= new_since]
    if window is not None:
        new = new[max(0, len(new) - window) :]
    if replay is not None and len(old) > replay:
        old = _stratified(old, replay)
    return new, old


def _stratified(images: Sequence[Image], most: int) -> list[Image]:
    """So many images, each class in proportion; a class that would have none has one where there is room."""
    by_class: dict[str, list[Image]] = {}
    for image in sorted(images, key=lambda image: image.sha256):
        by_class.setdefault(image.label or "", []).append(image)
    quotas = _quotas({name: len(members) for name, members in by_class.items()}, most)
    return [image for name, members in by_class.items() for image in members[: quotas[name]]]


def _quotas(counts: dict[str, int], most: int) -> dict[str, int]:
    """Divide ``most`` in proportion to counts whose sum is larger, by the method of largest remainders."""
    total = sum(counts.values())
    exact = {name: most * count / total for name, count in counts.items()}
    quotas = {name: int(share) for name, share in exact.items()}
    left = most - sum(quotas.values())
    for name in sorted(counts, key=lambda name: (quotas[name] - exact[name], name))[:left]:
        quotas[name] += 1
    if len(counts) <= most:
        for name in sorted(name for name, quota in quotas.items() if quota == 0):
            quotas[max(quotas, key=lambda name: (quotas[name], name))] -= 1
            quotas[name] = 1
    return quotas
