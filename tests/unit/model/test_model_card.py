from __future__ import annotations

import dataclasses

import numpy as np

from pipeline.model.card import Card, plain
from pipeline.model.evaluate import Evaluation, evaluate
from pipeline.model.footprint import Footprint
from pipeline.model.gate import Evaluations, judge
from pipeline.model.slices import Slice
from pipeline.model.snapshot import Snapshot
from pipeline.policies import GatePolicy
from pipeline.records import Image

COST = Footprint(latency_ms=2.5, batch_ms=1.25, batch_size=64, threads=2, rounds=31, megabytes=1.5, difference=1e-6)


def image(number: int, label: str, split: str = "training") -> Image:
    return Image(
        id=number, key=f"f/{number}.png", sha256=f"{number:064x}", label=label, split=split, batch_id=1 + number // 10
    )


def evaluation(right: int) -> Evaluation:
    labels = np.arange(100) % 2
    answers = np.where(np.arange(100) < right, labels, 1 - labels)
    return evaluate(np.eye(2)[answers] * 0.8 + 0.1, labels, ("rose", "tulip"))


def card() -> Card:
    evaluations = {
        "challenger": Evaluations(new=evaluation(90), old=evaluation(95), footprint=COST),
        "champion": Evaluations(new=evaluation(50), old=evaluation(96), footprint=COST),
    }
    slices = (Slice(name="class 'rose'", images=50, ours=40, theirs=44, worse=6),)
    gate = judge(GatePolicy(), challenger=evaluations["challenger"], champion=evaluations["champion"], slices=slices)
    before = Snapshot.of([image(1, "rose"), image(2, "tulip", "holdout"), image(3, "rose")])
    now = Snapshot.of(
        [image(1, "tulip"), image(2, "tulip", "holdout"), image(12, "aster"), image(13, "aster", "holdout")]
    )
    return Card(
        stream="flowers",
        version=2,
        champion=1,
        reason="alarm of check b2-v1",
        findings=("p = 0.001 <b>",),
        snapshot=now,
        snapshot_key="snapshots/flowers/ab.parquet",
        before=before,
        recipe={"epochs": "5", "seed": "0"},
        recipe_before={"epochs": "3", "seed": "0"},
        code="0.1.0",
        evaluations=evaluations,
        slices=gate.slices,
        decision=gate,
    )


def test_it_says_what_data_why_how_good_and_what_changed() -> None:
    text = card().to_markdown()
    assert text.startswith("# flowers, version 2\n\nThe gate compared it with version 1: it **is fit to take over**.")
    assert "alarm of check b2-v1\n\n- p = 0.001 &lt;b&gt;" in text
    assert "2 images to train on and 2 in the holdout, of batches 1 to 2" in text
    assert "| aster | 1 | 1 |" in text
    assert "| accuracy | 0.9000 | 0.5000 | 0.9500 | 0.9600 |" in text
    assert "| class 'rose' | 50 | 0.8000 | 0.8800 |" in text
    assert "| this version | 2.500 | 1.250 | 1.50 |" in text
    for change in ("2 images are new", "1 images are left out", "1 images have another label", "New class: aster"):
        assert f"- {change}" in text
    assert "- `epochs`: 5, before 3" in text
    assert "`seed`:" not in text


def test_a_first_model_has_nothing_to_be_compared_with() -> None:
    first = dataclasses.replace(
        card(),
        champion=None,
        before=None,
        recipe_before={},
        evaluations={"challenger": card().evaluations["challenger"]},
    )
    text = first.to_markdown()
    assert "compared it with no champion" in text
    assert "It is the first model of its stream." in text
    assert ", champion |" not in text


def test_names_from_outside_stay_text() -> None:
    assert plain("a|b\n# <script> *x* [l](u) `c`") == "a\\|b \\# &lt;script&gt; \\*x\\* \\[l\\](u) \\`c\\`"
