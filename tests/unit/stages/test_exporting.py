from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigurationError
from pipeline.labels.queue_file import restored
from pipeline.records import ModelVersion
from pipeline.stages.exporting import COLUMNS, _csv, _parquet, parse_since

NOW = datetime(2026, 11, 21, 5, 30, tzinfo=UTC)
MODEL = ModelVersion(stream="s", version=2, run_id="r", aliases=(), tags={}, created_at=NOW)
AWKWARD = ("=1+1", "+1", "-1", "@sum", "\tx", "'quoted", 'a "b", c', "two\r\nlines", "Größe/图像.jpg", "", "null")


def rows() -> list[tuple[Any, ...]]:
    return [
        (
            "s",
            number,
            text,
            "ab" * 32,
            2,
            text,
            0.25,
            [[text, 0.25], ["b", 0.125]],
            NOW,
            None,
            "training",
            1,
            None,
            None,
        )
        for number, text in enumerate(AWKWARD)
    ]


def test_a_csv_file_has_no_formula_and_gives_back_every_value() -> None:
    file = io.BytesIO()
    with _csv(file, MODEL) as write:
        write(rows()[:4])
        write(rows()[4:])
    assert file.getvalue().startswith(b"\xef\xbb\xbf")
    found = list(csv.reader(io.StringIO(file.getvalue().decode("utf-8-sig"), newline="")))
    assert tuple(found[0]) == COLUMNS
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for line in found for cell in line)
    key, prediction, time, label = (COLUMNS.index(name) for name in ("key", "prediction", "predicted_at", "label"))
    assert tuple(restored(line[key]) for line in found[1:]) == AWKWARD
    assert tuple(restored(line[prediction]) for line in found[1:]) == AWKWARD
    assert {(line[time], line[label]) for line in found[1:]} == {("2026-11-21T05:30:00+00:00", "")}


def test_a_parquet_file_has_every_value_as_it_is() -> None:
    file = io.BytesIO()
    with _parquet(file, MODEL) as write:
        write(rows()[:4])
        write(rows()[4:])
    assert pq.ParquetFile(file).num_row_groups == 2
    found = pq.read_table(file).to_pylist()
    assert tuple(row["key"] for row in found) == tuple(row["prediction"] for row in found) == AWKWARD
    assert [row["top_k"][0] for row in found] == [{"label": text, "probability": 0.25} for text in AWKWARD]
    assert {(row["predicted_at"], row["label"], row["check_id"]) for row in found} == {(NOW, None, None)}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        (" 2026-11-21T05:30 ", NOW),
        ("2026-11-21T05:30Z", NOW),
        ("2026-11-21 06:30:00+01:00", NOW),
    ],
)
def test_since_is_utc_unless_it_says_otherwise(text: str, time: datetime) -> None:
    assert parse_since(text) == time


@pytest.mark.parametrize("text", ["", "yesterday", "21.11.2026", "2026-13-01", "9999-12-31T23:59-14:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--since takes a date or a time"):
        parse_since(text)
