"""Hostile files and hostile keys through ingest, on the real store: the catalogue says the right thing of each."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.workplace import Workplace, workplace
from tests import hostile


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Iterator[Workplace]:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "wild.yaml").write_text("labels: none\ningest: {max_bad_share: 1, max_bytes: 3000000, near_bits: 0}\n")
    with workplace(settings.model_copy(update={"streams": streams}), "wild") as opened:
        yield opened


def catalogued(place: Workplace) -> dict[str, dict[str, Any]]:
    with place.catalog._cursor() as cursor:
        cursor.execute(
            "select o.key, o.status, o.reason_code, o.reason, i.sha256, i.width, i.height, i.format, i.phash,"
            " i.brightness, i.contrast, i.sharpness, i.colourfulness, i.entropy, i.bytes"
            " from tidemark.object o left join tidemark.image i on i.id = o.image_id where o.stream = 'wild'"
        )
        return {row["key"]: dict(row) for row in cursor.fetchall()}


def test_the_catalogue_says_of_every_hostile_file_what_became_of_it(place: Workplace) -> None:
    cases = hostile.corpus()
    assert len(cases) > 60
    for name, (data, _) in cases.items():
        place.store.put_image(f"wild/{name}", data, "image/jpeg")
    place.store.put_image("wild/giant.jpg", bytes(3_000_001), "image/jpeg")
    result = ingest(place)
    rows = catalogued(place)
    wrong = {
        name: (row["reason_code"], code)
        for name, (_, code) in cases.items()
        if (row := rows.pop(f"wild/{name}"))["reason_code"] != code
        or row["status"] != ("accepted" if code is None else "quarantined")
        or (code is None and None in (row["width"], row["entropy"], row["phash"], row["colourfulness"]))
        or (code is not None and not (row["reason"] and row["reason"].isprintable()))
    }
    assert not wrong
    giant = rows.pop("wild/giant.jpg")
    assert (giant["reason_code"], giant["sha256"]) == ("too_large", None)
    assert not rows
    images = {data for data, code in cases.values() if code is None}
    assert result["accepted"] == len(images)
    assert ingest(place)["batch"] is None


def test_every_key_that_the_store_holds_is_taken_in_under_its_own_name(place: Workplace) -> None:
    names = [*hostile.KEYS, hostile.longest_key("wild/").removeprefix("wild/")]
    for number, name in enumerate(names):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (number, 40, 90)).save(buffer, "PNG")
        place.store.put_image(f"wild/{name}", buffer.getvalue(), "image/png")
    result = ingest(place)
    rows = catalogued(place)
    assert set(rows) == {f"wild/{name}" for name in names}
    assert {row["status"] for row in rows.values()} == {"accepted"}
    assert result["accepted"] == len(names)
    for image in place.catalog.batch_images("wild", [result["batch"]]):
        assert place.store.get_image(image.key, 10**6)  # what the catalogue says leads to the bytes
    assert ingest(place)["batch"] is None
