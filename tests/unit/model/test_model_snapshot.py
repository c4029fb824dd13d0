from __future__ import annotations

import dataclasses
import random

import pytest

from pipeline.errors import ArtefactDamaged
from pipeline.model.snapshot import Snapshot
from pipeline.records import Image


def images(count: int = 12) -> list[Image]:
    return [
        Image(
            id=number,
            key=f"digits/ü/{number % 3}/{number}.png",
            sha256=f"{number:064x}",
            label=str(number % 3),
            split="holdout" if number % 4 == 0 else "training",
            batch_id=1 + number // 6,
        )
        for number in range(1, count + 1)
    ]


def test_the_order_of_the_images_does_not_matter() -> None:
    shuffled = images()
    random.Random(0).shuffle(shuffled)
    assert Snapshot.of(shuffled) == Snapshot.of(images())
    assert Snapshot.of(shuffled).to_parquet() == Snapshot.of(images()).to_parquet()


@pytest.mark.parametrize(
    "change",
    [{"label": "x"}, {"split": "holdout"}, {"sha256": "0" * 64}, {"batch_id": 9}, {"key": "digits/x.png"}, {"id": 99}],
)
def test_any_change_changes_the_digest(change: dict[str, object]) -> None:
    changed = images()
    changed[0] = dataclasses.replace(changed[0], **change)  # type: ignore[arg-type]
    assert Snapshot.of(changed).digest != Snapshot.of(images()).digest


def test_the_digest_is_fixed_for_ever() -> None:
    # Keys in the store carry it: a change of the canonical form would orphan every snapshot.
    assert Snapshot.of(images()).digest == "ef4f529192576355983bab23974f7629407ed59a1f5b2db1a2647715ed7a5658"


def test_it_survives_its_bytes() -> None:
    snapshot = Snapshot.of(images())
    assert Snapshot.from_parquet(snapshot.to_parquet()) == snapshot


def test_it_knows_classes_splits_and_batches() -> None:
    snapshot = Snapshot.of(images())
    assert snapshot.classes == ("0", "1", "2")
    assert [image.id for image in snapshot.split("holdout")] == [4, 8, 12]
    assert snapshot.counts("training") == {"0": 3, "1": 3, "2": 3}
    assert snapshot.batch_ids == (1, 2, 3)


def test_images_without_a_label_or_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        Snapshot.of([dataclasses.replace(images()[0], label=None)])
    with pytest.raises(ValueError, match="once"):
        Snapshot.of([*images(), images()[3]])


def test_an_empty_snapshot_is_one() -> None:
    empty = Snapshot.of([])
    assert Snapshot.from_parquet(empty.to_parquet()) == empty
    assert empty.classes == ()


def test_damaged_bytes_give_one_clear_line() -> None:
    whole = Snapshot.of(images()).to_parquet()
    for content in (b"", b"PAR1", whole[:200], whole[:-3], whole[4:]):
        with pytest.raises(ArtefactDamaged, match="snapshot is damaged") as caught:
            Snapshot.from_parquet(content)
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_never_read_as_another_list() -> None:
    snapshot = Snapshot.of(images())
    whole = snapshot.to_parquet()
    generator = random.Random(0)
    refused = 0
    for _ in range(200):
        changed = bytearray(whole)
        changed[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        try:
            assert Snapshot.from_parquet(bytes(changed)) == snapshot
        except ArtefactDamaged:
            refused += 1
    assert refused > 50


def test_another_parquet_file_is_not_a_snapshot() -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"image_id": [1]}), buffer)
    with pytest.raises(ArtefactDamaged, match="not written as a snapshot"):
        Snapshot.from_parquet(buffer.getvalue())


def test_another_key_is_no_other_lesson_but_another_label_is() -> None:
    snapshot = Snapshot.of(images())
    moved = Snapshot.of([dataclasses.replace(image, key=f"elsewhere/{image.key}", batch_id=9) for image in images()])
    assert moved.digest != snapshot.digest
    assert moved.lesson == snapshot.lesson
    first, *rest = images()
    assert Snapshot.of([dataclasses.replace(first, label="another"), *rest]).lesson != snapshot.lesson
