from __future__ import annotations

import csv
import io
import json
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from pipeline.labels.label_studio import configuration, write_tasks
from pipeline.labels.queue_file import COLUMNS, neutral, restored, write_queue
from pipeline.labels.reading import read_labels
from pipeline.records import Claim, QueuedImage, Unlabelled

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30)
KEYS = st.one_of(
    TEXT, st.sampled_from("=+-@'\t\r\n").flatmap(lambda first: TEXT.map(lambda rest: first + rest))
).filter(lambda key: key.strip() and not key.startswith("s3://images/"))


def queued(key: str, predicted: str | None = "cat") -> QueuedImage:
    confidence = None if predicted is None else 0.5
    return QueuedImage(id=1, key=key, batch_id=1, drifted=False, predicted=predicted, confidence=confidence)


@given(st.text())
def test_no_spreadsheet_takes_a_value_for_a_formula_and_none_is_lost(value: str) -> None:
    assert not neutral(value).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert restored(neutral(value)) == value


def test_what_a_person_types_is_left_alone() -> None:
    assert [restored(value) for value in ("'tis.png", "=b", "a'", "'")] == ["'tis.png", "=b", "a'", "'"]


@given(st.lists(KEYS, min_size=1, max_size=20, unique=True), st.sampled_from(",;\t"))
def test_a_queue_comes_back_with_labels_whatever_the_spreadsheet_writes(keys: list[str], delimiter: str) -> None:
    file = io.StringIO()
    write_queue(file, [(queued(key, "=evil()" if at % 2 else None), f"http://x/{at}") for at, key in enumerate(keys)])
    assert list(read_labels(io.BytesIO(("\ufeff" + file.getvalue()).encode()), "images")) == [
        Unlabelled(line=outcome.line) for outcome in read_labels(io.BytesIO(file.getvalue().encode()), "images")
    ]
    rows = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert tuple(rows[0]) == COLUMNS
    for row in rows[1:]:
        row[1] = "dog"
    saved = io.StringIO()
    csv.writer(saved, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    claims = list(read_labels(io.BytesIO(saved.getvalue().encode("utf-16")), "images", may_be_open=True))
    assert [claim.target for claim in claims if isinstance(claim, Claim)] == keys
    assert {claim.label for claim in claims if isinstance(claim, Claim)} == {"dog"}


@given(st.lists(KEYS, min_size=1, max_size=10, unique=True))
def test_label_studios_tasks_come_back_with_their_keys(keys: list[str]) -> None:
    file = io.StringIO()
    write_tasks(file, [(queued(key, "cat" if at % 2 else None), "http://x") for at, key in enumerate(keys)], "m")
    tasks = json.loads(file.getvalue())
    assert ["predictions" in task for task in tasks] == [bool(at % 2) for at in range(len(keys))]
    for task in tasks:  # as a person answers
        answer = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["dog"]}}
        task["annotations"] = [{"was_cancelled": False, "result": [answer]}]
    exported = json.dumps(tasks, ensure_ascii=False).encode()
    claims = list(read_labels(io.BytesIO(exported), "images", expected="jsonl", may_be_open=True))
    assert [(claim.target, claim.label) for claim in claims if isinstance(claim, Claim)] == [(k, "dog") for k in keys]


def test_the_labelling_page_offers_every_class() -> None:
    classes = ["cat", "<&\"'>", "Käfer", "=1+1"]
    page = ElementTree.fromstring(configuration(classes))
    assert [choice.get("value") for choice in page.iter("Choice")] == classes
    choices, image = page.find("Choices"), page.find("Image")
    assert choices is not None
    assert image is not None
    assert choices.get("toName") == image.get("name")
