"""Files read and images arriving in any order, against a model of a few lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.records import Claim
from pipeline.settings import Settings
from pipeline.stages.workplace import Workplace, workplace
from tests.integration.catalogued import enter, labels_of

CONTENT = {"a.png": "1", "copy-of-a.png": "1", "b.png": "2", "late-copy-of-a.png": "1"}  # three keys lead to one image
LATE = ("b.png", "late-copy-of-a.png")
START = datetime(2026, 11, 1, tzinfo=UTC)

rows = st.lists(st.tuples(st.sampled_from(list(CONTENT)), st.sampled_from(["x", "y"])), max_size=3)
reads = st.tuples(st.sampled_from(["F", "G"]), st.sampled_from([0, 0, 0, 3, -3]), rows)
steps = st.lists(st.one_of(reads, reads, reads, st.sampled_from(LATE)), min_size=4, max_size=12)


@dataclass
class Said:
    """What a file says of a key."""

    label: str
    order: tuple[int, int]
    image: str | None = None


@dataclass
class Model:
    """The rules of docs/labels.md, without a database."""

    keys: set[str] = field(default_factory=lambda: set(CONTENT) - set(LATE))
    files: dict[str, dict[str, Said]] = field(default_factory=lambda: {"F": {}, "G": {}})
    standing: dict[str, tuple[int, int]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    count: Iterator[int] = field(default_factory=itertools.count)
    changes: int = 0

    def read(self, file: str, time: int, said: list[tuple[str, str]]) -> None:
        before, now = self.files[file], {}
        for key in dict.fromkeys(key for key, _ in said):
            given = {label for other, label in said if other == key}
            if len(given) == 1:
                label = given.pop()
                number = next(self.count)
                same = key in before and before[key].label == label
                now[key] = before[key] if same else Said(label, (time, number))
        self.files[file] = now
        self.settle(file)

    def settle(self, *files: str) -> None:
        waiting: dict[str, list[Said]] = {}
        for file in files:
            here: dict[str, list[Said]] = {}
            for key, claim in self.files[file].items():
                image = claim.image or (CONTENT.get(key) if key in self.keys else None)
                if image is not None:
                    here.setdefault(image, []).append(claim)
            for image, claims in here.items():
                if len({claim.label for claim in claims}) == 1:
                    waiting.setdefault(image, []).extend(claim for claim in claims if claim.image is None)
        for image, claims in waiting.items():
            for claim in claims:
                claim.image = image
            if claims and (newest := max(claims, key=lambda claim: claim.order)).order > self.standing.get(
                image, (-99, 0)
            ):
                self.standing[image] = newest.order
                self.changes += self.labels.get(image) != newest.label
                self.labels[image] = newest.label


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Iterator[Workplace]:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "pets.yaml").write_text("labels: csv\n")
    with workplace(settings.model_copy(update={"streams": streams}), "pets") as opened:
        yield opened


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(steps)
def test_labels_are_what_the_rules_say_in_whatever_order(place: Workplace, steps: list[Any]) -> None:
    catalog, model = place.catalog, Model()
    catalog.forget_stream("pets")
    enter(place, {f"pets/{key}": CONTENT[key] for key in sorted(model.keys)})
    for number, step in enumerate(steps):
        if isinstance(step, str):
            enter(place, {f"pets/{step}": CONTENT[step]})
            model.keys.add(step)
            model.settle("F", "G")
            catalog.settle_labels("pets", "pets/", None)
        else:
            file, shift, said = step
            time = number + shift  # most files are read in the order in which they were written
            model.read(file, time, said)
            read = catalog.read_labels(
                "pets",
                [Claim(line=at, target=key, by_name=False, label=label) for at, (key, label) in enumerate(said, 2)],
                source="file",
                origin=file,
                etag=str(number),
                size=1,
                stated_at=START + timedelta(days=time),
            )
            catalog.settle_labels("pets", "pets/", None, read.file)
            assert catalog.settle_labels("pets", "pets/", None, read.file) == 0
        expected = {f"pets/{key}": model.labels.get(CONTENT[key]) for key in model.keys}
        assert labels_of(place) == expected
    assert sum(row["events"] for row in catalog.label_events_by_source("pets")) == model.changes
    for row in _histories(place):
        assert row["label"] == row["newest"]
        assert row["broken"] == 0


def _histories(place: Workplace) -> list[dict[str, Any]]:
    """Each image's label, that of its newest event, and how many events do not go on from the one before."""
    with place.catalog._cursor() as cursor:
        cursor.execute(
            "select i.label, (array_agg(e.label order by e.id desc))[1] as newest,"
            " count(*) filter (where e.previous is distinct from e.earlier or e.previous = e.label) as broken"
            " from tidemark.image i join (select *, lag(label) over (partition by image_id order by id) as earlier"
            " from tidemark.label_event) e on e.image_id = i.id group by i.id"
        )
        return [dict(row) for row in cursor.fetchall()]
