"""A gate that asks a person: nothing moves before the answer, and what was judged must still be what there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.stages.approval import approve, await_approval, supersede
from pipeline.stages.ingest import ingest
from pipeline.stages.overview import models
from pipeline.stages.promotion import load_reference
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage import keys
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import CHALLENGER, CHAMPION
from tests.integration.colours import CLASSES, put_in_registry, textured
from tests.integration.commands import tidemark
from tests.integration.test_story import Killed, die

NAME = "asked"
STREAM = """
schedule: null
holdout: {share: 0.5}
drift: {changes: []}
reference: {min_images: 20}
gate: {approval: manual}
"""


@pytest.fixture
def place(registry_settings: Settings, tmp_path: Path) -> Iterator[Workplace]:
    """Images, and version 1 in charge; it has no reference, which plays no part here."""
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / f"{NAME}.yaml").write_text(STREAM)
    settings = registry_settings.model_copy(update={"streams": streams})
    store = ObjectStore.from_settings(settings)
    for number in range(80):
        colour = CLASSES[number % len(CLASSES)]
        store.put_image(f"{NAME}/{colour}/{number}.png", textured(colour, number), "image/png")
    with workplace(settings, NAME) as opened:
        ingest(opened)
        assert put_in_registry(settings, NAME, tmp_path) == 1
        yield opened
        opened.registry.forget(NAME)


def judged(place: Workplace, folder: Path) -> dict[str, Any]:
    """A new version as a retraining leaves it whose gate has said yes: the result of its stage."""
    champion = place.registry.require_champion(NAME)
    number = put_in_registry(place.settings, NAME, folder)
    place.registry.set_alias(NAME, CHAMPION, champion.version)
    place.registry.set_alias(NAME, CHALLENGER, number)
    challenger = place.registry.version(NAME, number)
    retraining = place.catalog.start_retraining(NAME, "alarm of check b2-v1", None)
    found = {"count": 50, "accuracy": 0.96, "macro_f1": 0.95}
    place.catalog.trace_retraining(
        retraining,
        model_version=number,
        mlflow_run_id=challenger.run_id,
        evaluation={"challenger": {"new": found, "old": None}, "champion": {"new": {**found, "accuracy": 0.5}}},
        gate={"promote": True, "reasons": ["better: <b>accuracy</b> 0.960"]},
    )
    supersede(place)
    return await_approval(place, challenger, champion, retraining)


def test_a_person_has_the_last_word(place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = judged(place, tmp_path)
    assert (asked["outcome"], asked["version"]) == ("awaiting approval", 2)
    assert "Version 2 of **asked** has passed the gate. Trained for: alarm of check b2-v1." in asked["evidence"]
    assert "- better: &lt;b&gt;accuracy&lt;/b&gt; 0.960" in asked["evidence"]
    assert "| new holdout: accuracy | 0.9600 | 0.5000 |" in asked["evidence"]
    assert place.registry.require_champion(NAME).version == 1
    assert not place.store.has_artifact(keys.reference(NAME, 2))
    assert models(place)[-1]["gate"] == "awaiting approval"

    # Killed before the alias has moved, and killed after: either way the same answer is given again.
    monkeypatch.setattr(place.registry, "set_alias", die)
    with pytest.raises(Killed):
        approve(place, 2)
    monkeypatch.undo()
    assert place.registry.require_champion(NAME).version == 1
    for method in ("complete_promotion", "finish_retraining"):
        monkeypatch.setattr(place.catalog, method, die)
    with pytest.raises(Killed):
        approve(place, 2)
    monkeypatch.undo()
    assert place.registry.require_champion(NAME).version == 2
    done = approve(place, 2, by="ann")
    assert (done["outcome"], done["version"]) == ("promoted", 2)
    assert len(load_reference(place, 2)) >= 20
    assert approve(place, 2)["outcome"] == "promoted"  # once more changes nothing
    (row,) = place.catalog.retrainings(NAME)
    assert row.status == "promoted"
    assert [item["model_version"] for item in place.catalog.promotions(NAME)] == [2]
    with pytest.raises(ConfigurationError, match="nothing of stream asked awaits approval"):
        approve(place)
    with pytest.raises(ConfigurationError, match="version 9 of stream asked does not await approval"):
        approve(place, 9)


def test_a_challenger_that_is_turned_down_stays_out(place: Workplace, tmp_path: Path) -> None:
    judged(place, tmp_path)
    told = tidemark(place.settings, "approve", NAME, "--decline", "--by", "bob", "--json")
    assert '"outcome": "rejected"' in told.stdout, told.stderr
    assert place.registry.require_champion(NAME).version == 1
    (row,) = place.catalog.retrainings(NAME)
    assert row.gate is not None
    assert (row.status, row.gate["approval"]) == ("rejected", "declined by bob")
    assert row.gate["reasons"]  # what the gate said stays on record
    listed = models(place)[-1]
    assert (listed["gate"], listed["approval"], listed["aliases"]) == ("declined", "declined by bob", [])
    assert approve(place, 2)["outcome"] == "rejected"  # too late to think again
    assert place.registry.require_champion(NAME).version == 1


def test_what_was_judged_must_still_be_what_there_is(place: Workplace, tmp_path: Path) -> None:
    judged(place, tmp_path)
    judged(place, tmp_path)  # a newer challenger has passed the gate
    assert [row.status for row in place.catalog.retrainings(NAME)] == ["rejected", "awaiting approval"]
    assert approve(place, 2)["outcome"] == "rejected"
    place.registry.set_alias(NAME, CHAMPION, 2)  # by hand, in MLflow
    assert approve(place, 3)["outcome"] == "rejected"
    assert place.registry.require_champion(NAME).version == 2
    assert [model["gate"] for model in models(place)] == [None, "outdated", "outdated"]
    assert "judged against champion 1, and the champion is 2" in models(place)[-1]["approval"]
