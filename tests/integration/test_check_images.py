"""Which images a check looks at: not those that were learnt, those that can be read, of near duplicates one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import CheckFailed, TrainingImpossible
from pipeline.stages.check import check
from pipeline.stages.ingest import ingest
from pipeline.stages.promotion import load_reference
from pipeline.stages.retrain import retrain
from pipeline.stages.workplace import Workplace
from tests.integration.scans import scans
from tests.integration.test_check_decisions import champion, made, night, place, under

__all__ = ["champion", "place"]  # fixtures


def alike(place: Workplace, chosen: str) -> int:
    """Make near duplicates of some images, as the ingest does of images whose hashes are close; how many."""
    with place.catalog._cursor() as cursor:
        where = f"stream = %(stream)s and {chosen}"
        cursor.execute(
            f"update tidemark.image set near_group = (select min(id) from tidemark.image where {where}) where {where}",
            {"stream": place.stream.name},
        )
        return int(cursor.rowcount)


def test_images_that_nobody_tested_wait_for_others_and_are_not_called_clean(place: Workplace) -> None:
    night(place, 1, 0, 60)
    check(place)
    second = night(place, 2, 60, 65)
    assert retrain(place)["outcome"] == "promoted"  # takes in the second night, which no check has seen
    images = place.catalog.batch_images(place.stream.name, [second])
    learnt = sum(image.split == "training" for image in images)
    fresh = len(images) - learnt
    assert 0 < fresh < 12
    waits = made(place, check(place))
    assert waits.decision == "pending"
    version = waits.model_version
    assert waits.reasons[0] == (
        f"Version {version} was trained on {learnt} of these 15 images, which cannot tell whether others differ."
    )
    assert waits.reasons[1].endswith(f" {fresh} besides: a check needs 12 and waits for {12 - fresh} more.")
    with pytest.raises(
        CheckFailed, match=r"batch 1 of stream .* keeps its decision, since nothing joins it: Version 1"
    ):
        check(under(place, min_images=100), 1, force=True)
    third = night(place, 3, 68, 78)
    together = made(place, check(place))
    assert together.batch_ids == (second, third)
    assert together.decision in ("clean", "watch", "alarm")
    assert together.p_value is not None


def test_waiting_batches_stay_together_when_another_model_takes_charge(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(place, 1, 0, 60)
    check(place)
    retrain(place)
    small = under(place, min_images=30)
    waiting = [night(place, 2, 60, 68)]
    assert made(place, check(small)).decision == "pending"
    # The next model is in charge before the next night, and has no check of these batches.
    champion = place.registry.champion(place.stream.name)
    assert champion is not None
    monkeypatch.setattr(type(place.registry), "champion", lambda *_: replace(champion, version=7))
    monkeypatch.setattr("pipeline.stages.deciding.load_reference", lambda place, _: load_reference(place, 1))
    waiting.append(night(place, 3, 68, 76))
    together = made(place, check(small))
    assert (together.id, together.batch_ids) == (f"b{waiting[0]}-{waiting[1]}-v7", tuple(waiting))
    assert together.p_value is not None


def test_a_lower_minimum_frees_what_waits_and_a_deleted_image_makes_one_check_more(champion: Workplace) -> None:
    place = champion
    second = night(place, 2, 60, 68)
    alike(place, f"batch_id = {second} and label = '0'")
    strict = under(place, min_images=20)
    waits = made(place, check(strict))
    assert "24 images count as 17: a check needs 20 and waits for 3 more." in waits.reasons[0]
    one = place.catalog.batch_images(place.stream.name, [second])[-1]
    place.store.delete_images(one.key)
    ingest(place)  # notes that it has gone
    again = made(place, check(strict))
    assert len(place.catalog.batch_images(place.stream.name, [second])) == 23
    assert again.id == f"{waits.id}-r1"
    assert check(strict)["check"] == again.id
    freed = made(place, check(place))
    assert (freed.batch_ids, freed.decision) == ((second,), "clean")


def test_images_that_cannot_be_read_are_waited_for(champion: Workplace) -> None:
    place = champion
    second = night(place, 2, 60, 68)
    images = place.catalog.batch_images(place.stream.name, [second])
    kept = {image.key: place.store.get_image(image.key, 1_000_000) for image in images[1:]}
    for key in kept:
        place.store.delete_images(key)
    waits = made(place, check(place))
    assert waits.decision == "pending"
    assert waits.reasons == (
        "23 of the 24 images cannot be read from the store. That leaves 1 to test, and a check needs 12.",
    )
    for key, content in kept.items():
        place.store.put_image(key, content, "image/png")
    found = made(place, check(place))
    assert (found.batch_ids, found.decision) == ((second,), "clean")


def test_a_large_batch_that_is_mostly_one_picture_is_tested(champion: Workplace) -> None:
    place = champion
    (scan,) = scans(4, 60, 61)
    for number in range(150):  # the same picture, other bytes
        place.store.put_image(f"{place.stream.prefix}night-2/4/{number}.png", scan + bytes([number]), "image/png")
    for number, data in enumerate((*scans(0, 60, 68), *scans(1, 60, 68))):
        place.store.put_image(f"{place.stream.prefix}night-2/{number // 8}/x{number}.png", data, "image/png")
    batch = ingest(place)["batch"]
    found = made(under(place, max_images=20), check(under(place, max_images=20)))
    assert found.batch_ids == (batch,)
    assert found.p_value is not None


def test_a_reference_holds_one_of_near_duplicates(place: Workplace) -> None:
    night(place, 1, 0, 60)
    check(place)
    holdout = place.catalog.holdout_images(place.stream.name, 0, 1000)
    burst = alike(place, "split = 'holdout' and label = '0'")
    assert burst > 10
    assert retrain(place)["outcome"] == "promoted"
    reference = load_reference(place, 1)
    assert len(reference) == len(holdout) - burst + 1
    assert np.isin(reference.image_ids, [image.id for image in holdout]).all()
    alike(place, "split = 'holdout'")
    with pytest.raises(TrainingImpossible, match="has 1 holdout image, near duplicates counted once"):
        retrain(place, force=True)
