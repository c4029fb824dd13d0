"""The loop without Airflow, on real services: a model is born, a quiet batch, a changed scanner, a better model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigurationError, IncompleteScore, NoChampion, TrainingImpossible
from pipeline.settings import Settings
from pipeline.stages.check import check
from pipeline.stages.embeddings import kept_embeddings
from pipeline.stages.ingest import ingest
from pipeline.stages.overview import fetch_report, models, stream_status
from pipeline.stages.promotion import load_reference, rollback
from pipeline.stages.retrain import retrain
from pipeline.stages.score import finish, plan, score, score_shard
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage import keys
from tests.integration.scans import STREAM, upload


@pytest.fixture
def story(registry_settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Settings, str]:
    name = "s" + "".join(c for c in request.node.name if c.isalnum()).lower()[-30:]
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / f"{name}.yaml").write_text(STREAM)
    return registry_settings.model_copy(update={"streams": streams}), name


@pytest.fixture
def place(story: tuple[Settings, str]) -> Iterator[Workplace]:
    with workplace(*story) as opened:
        yield opened


def night(place: Workplace, number: int, start: int, stop: int, **options: Any) -> dict[str, Any]:
    """Upload and ingest one night."""
    upload(place.settings, f"{place.stream.prefix}night-{number}/", start, stop, **options)
    return ingest(place)


def test_three_nights(place: Workplace) -> None:
    name, catalog = place.stream.name, place.catalog

    # Night 1: no champion, so the first model is trained, promoted, and scores the store.
    first = night(place, 1, 0, 60)
    with pytest.raises(NoChampion, match=f"tidemark retrain {name}"):
        score(place)
    born = check(place)
    assert born["decision"] == "alarm"
    again = check(place)  # decided once; the alarm stands until it is answered
    assert (again["decision"], again["check"], again["checks"]) == ("alarm", born["check"], [])
    assert again["report"] == born["check"]
    assert retrain(place)["outcome"] == "promoted"
    champion = place.registry.require_champion(name)
    assert champion.version == 1
    reference = load_reference(place, 1)
    split = {image.id: image.split for image in catalog.batch_images(name, [first["batch"]])}
    assert {split[image_id] for image_id in reference.image_ids.tolist()} == {"holdout"}
    assert score(place)["predictions"] == 180

    # The same again changes nothing.
    assert retrain(place)["outcome"] == "unchanged"
    assert score(place)["new"] == 0

    # Night 2: the same kind of images.
    night(place, 2, 60, 90)
    quiet = check(place)
    assert quiet["decision"] == "clean"
    assert quiet["p_value"] > 0.01
    seen = kept_embeddings(place, 1, (quiet["batch"],))
    assert seen is not None
    assert len(seen) == 90
    scored = score(place)
    assert (scored["new"], scored["predictions"], scored["complete"]) == (90, 270, True)

    # Night 3: another scanner.
    third = night(place, 3, 90, 150, changed=True)
    alarm = check(place)
    assert alarm["decision"] == "alarm"
    assert alarm["p_value"] < 0.01
    done = retrain(place)
    assert (done["outcome"], done["version"]) == ("promoted", 2)
    assert place.registry.require_champion(name).version == 2
    evaluation = catalog.retrainings(name)[-1].evaluation
    assert evaluation is not None
    assert evaluation["challenger"]["new"]["accuracy"] > evaluation["champion"]["new"]["accuracy"]
    # What normal means now: images since the drift.
    assert set(load_reference(place, 2).batch_ids.tolist()) == {third["batch"]}
    assert score(place)["predictions"] == 450
    assert catalog.completeness(name, 1).predictions == 270  # the old champion's predictions stay

    # The changed scanner stays: no new alarm.
    night(place, 4, 150, 170, changed=True)
    assert check(place)["decision"] == "clean"

    # And back.
    listed = models(place)
    assert [item["gate"] for item in listed] == ["promoted", "promoted"]
    assert listed[1]["check"] == alarm["check"]
    assert rollback(place)["version"] == 1
    assert place.registry.require_champion(name).version == 1
    with pytest.raises(ConfigurationError, match="in charge already"):
        rollback(place, 1)
    with pytest.raises(ConfigurationError, match="no model version 9"):
        rollback(place, 9)
    status = stream_status(place)
    assert (status["champion"], status["images"], status["checks"]) == (1, 510, 4)

    # Reports of every check lie in the store.
    for made in catalog.checks(name):
        fetched = fetch_report(place, made.id, place.settings.home / "reports")
        page = Path(fetched["file"]).read_text(encoding="utf-8")
        assert page.startswith("<!doctype html>")
        assert made.id in page
        assert place.store.has_artifact(keys.report(name, made.id, "json"))


def test_shards_divide_the_work_and_a_lost_image_is_recorded(place: Workplace) -> None:
    name = place.stream.name
    night(place, 1, 0, 60)
    check(place)
    retrain(place)
    planned = plan(place)
    assert planned["images"] == 180
    assert len(planned["shards"]) == 5  # of 40 images at most
    first = score_shard(place, planned["shards"][0], planned["version"])
    assert first["predictions"] == 40
    assert score_shard(place, planned["shards"][0], planned["version"])["predictions"] == 0
    with pytest.raises(IncompleteScore, match=r"140 images of .* have no prediction"):
        finish(place, planned["version"])
    victim = place.catalog.shard_images(name, planned["version"], 0, 10**9)[0]
    place.store._client.delete_object(Bucket=place.store.image_bucket, Key=victim.key)
    for shard in planned["shards"]:
        score_shard(place, shard, planned["version"])
    done = finish(place, planned["version"])
    assert (done["predictions"], done["failures"]) == (179, 1)
    for wrong in ("1", "a-b", "1-2-3", "1-2; drop table image"):
        with pytest.raises(ConfigurationError):
            score_shard(place, wrong, 1)


def test_small_batches_wait_and_are_checked_together(place: Workplace) -> None:
    night(place, 1, 0, 60)
    check(place)
    retrain(place)
    small = night(place, 2, 60, 62)
    waiting = check(place)
    assert waiting["decision"] == "pending"
    more = night(place, 3, 62, 66)
    together = check(place)
    assert together["decision"] == "clean"
    made = place.catalog.check(together["check"])
    assert made is not None
    assert made.batch_ids == (small["batch"], more["batch"])
    again = check(place, more["batch"], force=True)
    assert (again["decision"], len(again["checks"])) == ("clean", 1)
    assert again["checks"] != check(place, more["batch"], force=True)["checks"]
    with pytest.raises(ConfigurationError, match="no batch 999"):
        check(place, 999)


def test_a_challenger_that_is_no_better_changes_nothing(place: Workplace) -> None:
    name = place.stream.name
    night(place, 1, 0, 60)
    check(place)
    retrain(place)
    night(place, 2, 60, 90)
    done = retrain(place, reason="by hand")
    assert (done["outcome"], done["version"]) == ("rejected", 2)
    assert place.registry.require_champion(name).version == 1
    assert not place.store.has_artifact(keys.reference(name, 2))
    last = place.catalog.retrainings(name)[-1]
    assert last.status == "rejected"
    assert last.gate is not None
    assert last.gate["reasons"]


def test_what_cannot_be_trained_on_is_said_before_anything_is_spent(place: Workplace) -> None:
    with pytest.raises(TrainingImpossible, match="no labelled images"):
        retrain(place)
    night(place, 1, 0, 60, digits=[0])
    with pytest.raises(TrainingImpossible, match="one class, '0'"):
        retrain(place)
    assert place.catalog.retrainings(place.stream.name) == []


class Killed(BaseException):
    """Stands for a kill: nothing of ours turns it into something else."""


def die(*args: object, **kwargs: object) -> None:
    """In place of whatever a killed process never came to."""
    raise Killed


def test_a_retraining_killed_after_the_alias_moved_is_found_done(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = place.stream.name
    night(place, 1, 0, 60)
    check(place)

    # Nothing after the alias is written, neither on the way out: the process is gone.
    for method in ("complete_promotion", "try_finish_retraining", "finish_retraining"):
        monkeypatch.setattr(place.catalog, method, die)
    monkeypatch.setattr(place.registry, "try_end_run", die)
    with pytest.raises(Killed):
        retrain(place)
    monkeypatch.undo()
    assert place.registry.require_champion(name).version == 1
    assert [item.status for item in place.catalog.retrainings(name)] == ["running"]
    done = retrain(place)
    assert (done["outcome"], done["version"]) == ("promoted", 1)
    (row,) = place.catalog.retrainings(name)
    assert row.status == "promoted"
    assert row.gate is not None
    assert row.gate["promote"] is True  # what was decided stays on record
    assert [item["model_version"] for item in place.catalog.promotions(name)] == [1]
    assert score(place)["complete"]


def test_a_retraining_killed_before_the_alias_moved_changes_nothing(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = place.stream.name
    night(place, 1, 0, 60)
    check(place)

    monkeypatch.setattr(place.registry, "set_alias", die)
    with pytest.raises(Killed):
        retrain(place)
    monkeypatch.undo()
    assert place.registry.champion(name) is None
    assert check(place)["decision"] == "alarm"  # still to be answered
    assert retrain(place)["outcome"] == "promoted"
    assert [item.status for item in place.catalog.retrainings(name)] == ["failed", "promoted"]


def test_scoring_with_a_limit_or_beside_an_ingest_ends_well(place: Workplace) -> None:
    night(place, 1, 0, 60)
    check(place)
    retrain(place)
    part = score(place, limit=70)
    assert (part["new"], part["complete"]) == (70, False)
    planned = plan(place)
    assert planned["images"] == 110
    late = night(place, 2, 60, 70)
    for shard in planned["shards"]:
        score_shard(place, shard, planned["version"])
    done = finish(place, planned["version"], planned["up_to"])
    assert (done["predictions"], done["complete"]) == (180, False)
    assert score(place)["new"] == late["accepted"]


def test_images_that_the_champion_was_trained_on_are_not_tested(place: Workplace) -> None:
    night(place, 1, 0, 60)
    check(place)
    second = night(place, 2, 60, 110)
    retrain(place)  # takes in the second night, which no check has seen
    done = check(place)
    assert done["decision"] == "clean"
    made = place.catalog.check(done["check"])
    assert made is not None
    assert made.batch_ids == (second["batch"],)
    assert "Left out:" in made.reasons[-1]


def test_an_unknown_check_is_refused_before_training(place: Workplace) -> None:
    night(place, 1, 0, 60)
    with pytest.raises(ConfigurationError, match="no check 'b9-v9'; its newest: none yet"):
        retrain(place, check_id="b9-v9")
