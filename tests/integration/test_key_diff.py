"""What is new, changed and gone, against a model of it: any listings, any keys, any limits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline.records import Examined, Intake, Measures, StoreObject
from pipeline.settings import Settings
from pipeline.storage.catalog import Catalog, connect

MEASURES = Measures(brightness=0.5, contrast=0.2, sharpness=0.1)
TIME = datetime(2026, 11, 21, tzinfo=UTC)

keys = st.one_of(
    st.sampled_from(
        ["a", "b", "c d", "é", "dt=2026-11-20/x", "dt=2026-11-21/x", "b\\slash", "\\N", "\\.", "tab\there"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=8),
)
# A store: key → (content, whether it is an image).
stores = st.dictionaries(keys, st.tuples(st.integers(0, 3), st.booleans()), max_size=8)
nights = st.lists(st.tuples(stores, st.one_of(st.none(), st.integers(1, 4))), min_size=1, max_size=5)

numbers = count()


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    with connect(settings) as opened:
        yield opened


def listed(key: str, content: int) -> StoreObject:
    return StoreObject(key=key, bytes=10 + content, etag=f"etag{content}", last_modified=TIME)


def intake(item: StoreObject, content: int, good: bool) -> Intake:
    digest = hashlib.sha256(str((content, good)).encode()).hexdigest()
    if not good:
        return Intake(object=item, sha256=digest, status="quarantined", reason_code="truncated", reason="it\nbroke")
    found = Examined(width=8, height=8, format="PNG", measures=MEASURES, phash=f"{content:016x}")
    return Intake(object=item, sha256=digest, status="accepted", split="training", examined=found)


@examples(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(nights)
def test_the_catalogue_follows_the_store(catalog: Catalog, nights: list) -> None:
    stream = f"s{next(numbers)}"
    known: dict[str, tuple[int, bool] | None] = {}  # what a key led to when it was last read; None: gone since
    for store, limit in nights:
        assert catalog.load_listing(listed(key, content) for key, (content, _) in store.items()) == len(store)
        gone = {key for key, content in known.items() if content is not None and key not in store}
        assert catalog.mark_gone(stream, [""]) == len(gone)
        known |= dict.fromkeys(gone)

        new = {key for key, (content, _) in store.items() if known.get(key) is None or known[key][0] != content}
        assert catalog.find_new(stream) == len(new)
        found = list(catalog.found_objects(limit))
        assert {item.key for item in found} <= new
        assert len(found) == min(len(new), limit or len(new))
        if found:
            batch = catalog.open_batch(stream)
            catalog.record_intakes(stream, batch, [intake(item, *store[item.key]) for item in found], 0)
            known |= {item.key: store[item.key] for item in found}

        with catalog._cursor() as cursor:
            cursor.execute(
                "select o.key, o.status, i.sha256 from tidemark.object o"
                " left join tidemark.image i on i.id = o.image_id where o.stream = %s",
                (stream,),
            )
            rows = {row["key"]: (row["status"], row["sha256"]) for row in cursor.fetchall()}
        assert set(rows) == set(known)
        for key, content in known.items():
            status, sha256 = rows[key]
            if content is None:
                assert status == "gone"
            elif content[1]:
                assert (status, sha256) == ("accepted", hashlib.sha256(str(content).encode()).hexdigest())
            else:
                assert (status, sha256) == ("quarantined", None)


def test_only_what_was_listed_can_be_found_gone(catalog: Catalog) -> None:
    catalog.load_listing([listed(key, 0) for key in ("dt=2026-11-20/x", "dt=2026-11-21/x", "%/x", "_/x")])
    catalog.find_new("s")
    batch = catalog.open_batch("s")
    catalog.record_intakes("s", batch, [intake(item, 0, True) for item in catalog.found_objects()], 0)
    catalog.load_listing([])
    assert catalog.mark_gone("s", ["dt=2026-11-21/", "2026/11/21/"]) == 1
    assert catalog.mark_gone("s", ["%/"]) == 1  # no pattern, just a prefix
    assert catalog.mark_gone("s", [""]) == 2
