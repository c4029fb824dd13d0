"""Near duplicates count once, whatever is counted."""

from __future__ import annotations

import numpy as np

import drift
from pipeline.model.reference import Reference
from pipeline.policies import DriftPolicy
from pipeline.records import Image
from pipeline.stages.embeddings import Embedded
from pipeline.stages.evidence import Samples, accuracies
from pipeline.stages.near import different_pictures, near_groups, one_of_each, sampled


def image(number: int, group: int | None, label: str | None = None) -> Image:
    return Image(
        id=number,
        key=f"{number}.png",
        sha256=f"{number:064x}",
        label=label,
        split="holdout",
        batch_id=1,
        near_group=group,
    )


def test_a_group_counts_once_and_an_image_alone_for_itself() -> None:
    images = [image(1, 1), image(2, 1), image(3, None), image(4, 1)]
    assert different_pictures(images) == 2
    groups = near_groups(np.array([1, 2, 3, 4, 9]), {one.id: one for one in images})
    assert groups.tolist() == [1, 1, 3, 1, 9]
    assert one_of_each(groups).tolist() == [0, 2, 4]
    assert different_pictures([]) == len(one_of_each(np.empty(0, np.int64))) == 0


def test_no_picture_is_left_out_of_a_large_batch_for_duplicates_of_another() -> None:
    groups = np.concatenate([np.full(20_000, 7), np.arange(100, 125)])
    for seed in range(5):
        rows = sampled(groups, 500, seed)
        assert len(rows) == len(np.unique(rows)) == 500
        assert len(np.unique(groups[rows])) == 26
        assert (np.diff(rows) > 0).all()
    assert not np.array_equal(sampled(groups, 500, 0), sampled(groups, 500, 1))
    assert sampled(groups, 30_000, 0).tolist() == list(range(len(groups)))
    # More pictures than may be tested: any of them, as often.
    drawn = np.bincount(np.concatenate([sampled(np.arange(40), 10, seed) for seed in range(400)]), minlength=40)
    assert drawn.min() > 60
    assert drawn.max() < 145


def test_answers_to_images_that_are_alike_are_one_witness() -> None:
    # 25 scenes of 20 frames, whose answers are right or wrong together; the accuracy never changes.
    scenes, frames, draws = 25, 20, 200
    proven = covered = 0
    for seed in range(draws):
        rng = np.random.Generator(np.random.PCG64(seed))
        known = (rng.random(200) < 0.8).astype(int)
        labels = {number: image(number, None, str(right)) for number, right in enumerate(known.tolist(), 1)}
        right = np.repeat((rng.random(scenes) < 0.8).astype(int), frames)
        ids = np.arange(1001, 1001 + len(right))
        new = {
            number: image(number, 1001 + (number - 1001) // frames * frames, str(answer))
            for number, answer in zip(ids.tolist(), right.tolist(), strict=True)
        }
        found = accuracies(*samples_of(labels, new))[1]
        assert found is not None
        assert found.images == scenes
        proven += found.p_value is not None and found.p_value < 0.0027
        covered += found.low <= 0.8 <= found.high
    assert proven <= 4
    assert covered >= 0.88 * draws


def test_of_a_group_the_labelled_one_is_asked() -> None:
    known = {number: image(number, None, "1") for number in range(1, 101)}
    new = {
        number: image(number, 1001 + (number - 1001) // 2 * 2, "1" if number % 2 else None)
        for number in range(1001, 1061)
    }
    expected, measured = accuracies(*samples_of(known, new))
    assert expected is not None
    assert measured is not None
    assert (expected.images, measured.images) == (30, 30)
    fewer = {number: replace_label(one, None) if number > 1020 else one for number, one in new.items()}
    assert accuracies(*samples_of(known, fewer))[1] is None  # 10 of 30 pictures are no half


def test_a_reference_frozen_with_near_duplicates_is_calibrated_on_one_of_each() -> None:
    # 25 scenes of 20 frames: as 500 witnesses they would prove a loss on new images by chance.
    frozen = {
        number: image(number, 1 + (number - 1) // 20 * 20, "1" if number > 100 else "0") for number in range(1, 501)
    }
    new = {number: image(number, None, "1") for number in range(1001, 1101)}
    expected, measured = accuracies(*samples_of(frozen, new))
    assert expected is not None
    assert measured is not None
    assert measured.baseline == 0.8
    wide = accuracies(*samples_of({number: image(number, None, one.label) for number, one in frozen.items()}, new))[1]
    assert wide is not None
    assert measured.drop_high - measured.drop_low > 2 * (wide.drop_high - wide.drop_low)


def replace_label(one: Image, label: str | None) -> Image:
    return image(one.id, one.near_group, label)


def samples_of(reference: dict[int, Image], new: dict[int, Image]) -> tuple[Samples, Embedded]:
    """A champion that answers "1" to everything, 80 to 99 % sure."""

    def embedded(images: dict[int, Image]) -> Embedded:
        sure = np.linspace(0.8, 0.99, len(images)).astype(np.float32)
        ids = np.array(sorted(images), np.int64)
        return Embedded(ids, np.stack([1 - sure, sure], axis=1), np.zeros((len(ids), 2), np.float32), {})

    then = embedded(reference)
    calibration = drift.calibrate_harm(then.probabilities, np.array([one.label == "1" for one in reference.values()]))
    frozen = Reference(
        image_ids=then.image_ids,
        batch_ids=np.ones(len(then), np.int64),
        embeddings=then.embeddings,
        probabilities=then.probabilities,
        model_version=1,
        classes=("0", "1"),
        rehearsal={},
        calibration=calibration.to_arrays(),
    )
    now = embedded(new)
    return Samples(frozen, reference, now, new, ("0", "1"), DriftPolicy()), now
