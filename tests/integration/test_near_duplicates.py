"""Groups of near duplicates: real PostgreSQL, perceptual hashes made to measure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations

import numpy as np
import pytest

from pipeline.records import Examined, Intake, Measures, StoreObject
from pipeline.settings import Settings
from pipeline.storage.catalog import Catalog, connect

MEASURES = Measures(brightness=0.5, contrast=0.2, sharpness=0.1, colourfulness=3.0, entropy=5.0)


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    with connect(settings) as opened:
        yield opened


def intake(name: str, phash: int, split: str = "training", label: str | None = None) -> Intake:
    return Intake(
        object=StoreObject(key=f"s/{name}", bytes=10, etag=name, last_modified=datetime(2026, 11, 21, tzinfo=UTC)),
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        status="accepted",
        split=split,  # type: ignore[arg-type]
        label=label,
        examined=Examined(width=8, height=8, format="PNG", measures=MEASURES, phash=f"{phash:016x}"),
    )


def record(catalog: Catalog, *intakes: Intake, bits: int = 4) -> int:
    batch = catalog.open_batch("s")
    return catalog.record_intakes("s", batch, intakes, bits).left_holdout


def images(catalog: Catalog) -> dict[str, tuple[int, int | None, str]]:
    with catalog._cursor() as cursor:
        cursor.execute(
            "select o.key, i.id, i.near_group, i.split"
            " from tidemark.image i join tidemark.object o on o.image_id = i.id"
        )
        return {
            row["key"].removeprefix("s/"): (row["id"], row["near_group"], row["split"]) for row in cursor.fetchall()
        }


def groups(catalog: Catalog) -> set[frozenset[str]]:
    found: dict[int, set[str]] = {}
    for name, (image, group, _) in images(catalog).items():
        found.setdefault(group or image, set()).add(name)
    return {frozenset(names) for names in found.values() if len(names) > 1}


def flipped(phash: int, *bits: int) -> int:
    for bit in bits:
        phash ^= 1 << bit
    return phash


BASE = 0x9F3A_55C0_12E7_B846


def test_hashes_within_four_bits_make_a_group_wherever_the_bits_lie(catalog: Catalog) -> None:
    record(
        catalog,
        intake("a", BASE),
        intake("near", flipped(BASE, 1, 20, 33, 60)),
        intake("far", flipped(BASE, 1, 20, 33, 45, 60)),
        intake("other", ~BASE & (2**64 - 1)),
    )
    assert groups(catalog) == {frozenset({"a", "near", "far"})}  # far is one bit from near
    record(catalog, intake("twin", ~BASE & (2**64 - 1)))
    assert groups(catalog) == {frozenset({"a", "near", "far"}), frozenset({"other", "twin"})}


def test_the_stream_may_ask_for_closer_hashes(catalog: Catalog) -> None:
    record(catalog, intake("a", BASE), intake("two", flipped(BASE, 3, 50)), intake("same", BASE), bits=0)
    assert groups(catalog) == {frozenset({"a", "same"})}


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_groups_are_the_connected_components_in_whatever_blocks_they_come(catalog: Catalog, block: int) -> None:
    rng = np.random.default_rng(5)
    hashes: list[int] = []
    for _ in range(30):
        hashes.append(int(rng.integers(0, 2**64, dtype=np.uint64)))
        for _ in range(int(rng.integers(0, 6))):  # a walk away from it: ends need not be close to each other
            hashes.append(flipped(hashes[-1], *rng.choice(64, int(rng.integers(0, 7)), replace=False).tolist()))
    order = rng.permutation(len(hashes))
    intakes = [intake(str(index), hashes[index], "holdout" if index % 3 == 0 else "training") for index in order]
    for start in range(0, len(intakes), block):
        record(catalog, *intakes[start : start + block])

    expected = [{index} for index in range(len(hashes))]
    for a, b in combinations(range(len(hashes)), 2):
        if (hashes[a] ^ hashes[b]).bit_count() <= 4:
            one = next(group for group in expected if a in group)
            two = next(group for group in expected if b in group)
            if one is not two:
                one |= two
                expected.remove(two)
    assert groups(catalog) == {frozenset(map(str, group)) for group in expected if len(group) > 1}
    straddling = {}
    for image, group, split in images(catalog).values():
        straddling.setdefault(group or image, set()).add(split)
    assert all(len(splits) == 1 for splits in straddling.values())
    assert {split for splits in straddling.values() for split in splits} == {"training", "holdout"}


def test_a_new_image_takes_the_side_of_the_group_it_joins(catalog: Catalog) -> None:
    record(catalog, intake("old", BASE, "holdout"))
    assert record(catalog, intake("new", flipped(BASE, 2, 9), "training")) == 0
    assert {split for _, _, split in images(catalog).values()} == {"holdout"}


def test_an_image_between_two_groups_joins_them_in_training(catalog: Catalog) -> None:
    record(catalog, intake("trained", BASE, "training"))
    record(catalog, intake("held", flipped(BASE, 0, 10, 20, 30, 40, 50), "holdout"))
    assert groups(catalog) == set()
    assert record(catalog, intake("bridge", flipped(BASE, 0, 10, 20), "holdout")) == 1  # "held" left the holdout
    assert {split for _, _, split in images(catalog).values()} == {"training"}


def test_an_old_image_that_gets_its_hash_later_is_not_moved_to_the_holdout(catalog: Catalog) -> None:
    record(catalog, intake("old", BASE, "training"), intake("held", flipped(BASE, 5), "holdout"), bits=0)
    with catalog._cursor() as cursor:
        cursor.execute(
            "update tidemark.image set phash = null, band_hash = null, entropy = null where split = 'training'"
        )
    assert record(catalog, intake("old", BASE, "training")) == 1
    assert {split for _, _, split in images(catalog).values()} == {"training"}
    assert len(groups(catalog)) == 1


def test_many_alike_cost_no_more_than_few(catalog: Catalog) -> None:
    """Blank pages: a group grows without its rows being touched again and again."""
    for start in range(0, 3000, 200):
        record(catalog, *(intake(str(number), BASE) for number in range(start, start + 200)))
    record(catalog, intake("last", flipped(BASE, 7)))
    with catalog._cursor() as cursor:
        cursor.execute("select count(*) as n, count(band_hash) as searched, max(near_group) as top from tidemark.image")
        assert cursor.fetchone() == {"n": 3001, "searched": 2, "top": images(catalog)["0"][0]}
        cursor.execute("select pg_stat_force_next_flush()")
        cursor.execute("select n_tup_upd from pg_stat_user_tables where relname = 'image'")
        assert cursor.fetchone()["n_tup_upd"] <= 2 * 3001
    assert catalog.largest_group("s") == (3001, 3001)


def test_the_search_goes_through_the_bands_indexes(catalog: Catalog) -> None:
    """What keeps ingest fast when the catalogue is large."""
    from pipeline.storage.sql import queries

    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 3000, dtype=np.uint64).tolist()
    record(catalog, *(intake(str(number), int(value)) for number, value in enumerate(hashes)))
    with catalog._cursor() as cursor:
        cursor.execute("analyze tidemark.image")
        for name in ("neighbours", "twins"):
            cursor.execute("explain " + queries("ingest")[name], {"ids": [1, 2, 3], "bits": 4})
            plan = "\n".join(row["QUERY PLAN"] for row in cursor.fetchall())
            assert "image_near_1" in plan, plan
            if name == "neighbours":
                assert plan.count("Index Only Scan using image_near") == 5, plan
