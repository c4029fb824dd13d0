"""What a check decides, on real services: size, cost, history and rest of a drift, under several policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drift
from pipeline.images.changes import CHANGES
from pipeline.settings import Settings
from pipeline.stages.check import check
from pipeline.stages.embeddings import kept_embeddings
from pipeline.stages.ingest import ingest
from pipeline.stages.promotion import load_reference
from pipeline.stages.retrain import retrain
from pipeline.stages.viewing import standings
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage import keys
from pipeline.storage.objects import ObjectStore
from tests.integration.scans import STREAM, scans, upload

# What is decided matters here, not how good the model is: the smallest network will do.
SMALL = STREAM.replace("resnet10t", "test_resnet").replace("epochs: 6", "epochs: 8")
assert "test_resnet" in SMALL
assert "epochs: 8" in SMALL


@pytest.fixture
def place(registry_settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workplace]:
    name = "c" + "".join(c for c in request.node.name if c.isalnum()).lower()[-30:]
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / f"{name}.yaml").write_text(SMALL)
    with workplace(registry_settings.model_copy(update={"streams": streams}), name) as opened:
        yield opened


@pytest.fixture
def champion(place: Workplace) -> Workplace:
    """A stream whose first model is in charge."""
    night(place, 1, 0, 60)
    assert check(place)["next"] == "retrain"
    assert retrain(place)["outcome"] == "promoted"
    return place


def night(place: Workplace, number: int, start: int, stop: int, **options: Any) -> int:
    """Upload and ingest one night; the id of its batch."""
    upload(place.settings, f"{place.stream.prefix}night-{number}/", start, stop, **options)
    return int(ingest(place)["batch"])


def under(place: Workplace, **policy: Any) -> Workplace:
    """The same stream with another drift policy."""
    return replace(
        place, stream=place.stream.model_copy(update={"drift": place.stream.drift.model_copy(update=policy)})
    )


def made(place: Workplace, done: dict[str, Any]) -> Any:
    found = place.catalog.check(done["check"])
    assert found is not None
    return found


def report_of(place: Workplace, found: Any) -> Any:
    return json.loads(place.store.get_artifact(keys.report(place.stream.name, found.id, "json")))


def _newest(place: Workplace) -> Any:
    return place.catalog.checks(place.stream.name, limit=1)[0]


def test_a_changed_scanner_is_sized_priced_and_named(champion: Workplace) -> None:
    place, name = champion, champion.stream.name
    reference = load_reference(place, 1)
    rehearsal = drift.Rehearsal.from_arrays(reference.rehearsal)
    assert rehearsal.changes == tuple(CHANGES)
    assert len(rehearsal.faint) == len(CHANGES)
    assert np.linalg.norm(rehearsal.axes) > 0
    assert len(drift.Calibration.from_arrays(reference.calibration)) == len(reference)

    second = night(place, 2, 60, 90, changed=True)
    done = check(place)
    found = made(place, done)
    assert (done["decision"], done["next"], found.test) == ("alarm", "retrain", "ensemble")
    measured = found.measured
    assert measured["signal"] is True
    assert measured["effect"]["low"] > 0.7
    assert measured["measured"]["images"] == 90
    assert measured["measured"]["drop_low"] > 0.05
    assert measured["measured"]["p_value"] < 0.01
    assert measured["expected"]["low"] <= measured["expected"]["accuracy"] <= measured["expected"]["high"]
    assert measured["cause"]["change"] == "inversion"  # the strongest of what this scanner does
    assert {item["name"] for item in measured["classes"]} == {"0", "1", "4"}
    assert any("labelled new images the model is right in" in reason for reason in found.reasons)
    assert any("looks like inversion" in reason for reason in found.reasons)
    twin = json.loads(place.store.get_artifact(keys.report(name, found.id, "json")))
    assert str(measured["effect"]["auc"])[:5] in json.dumps(twin)
    assert twin["next_steps"] == [
        "A challenger is trained on the images labelled so far; 90 of them are new.",
        "The challenger takes over only if it is better on holdout images; until then model version 1 stays in charge.",
    ]

    counted = [place.catalog.new_labels(name, second - 1, classes) for classes in (None, ["4", "7"], [])]
    assert counted == [90, 30, 0]  # what a retraining would count: a class that the stream does not name is none

    # The same night under other policies.
    def again(**policy: Any) -> Any:
        check(under(place, **policy), second, force=True)
        return _newest(place)

    cheap = again(min_accuracy_drop=0.99)
    assert (cheap.decision, cheap.measured["signal"]) == ("watch", False)
    assert any("the model can cope" in reason for reason in cheap.reasons)
    first_of_two = again(consecutive=(2, 3))
    assert (first_of_two.decision, first_of_two.measured["signal"]) == ("watch", True)
    # As strong as the alarm that it waits to be, and never called weaker: in the report, and on the overview.
    assert first_of_two.measured["watched"] == "checks"
    waits = report_of(place, first_of_two)["verdict"]
    assert "(likely cause: inversion), and it gets" in waits
    assert waits.endswith(": an alarm waits until further checks find this too.")
    (standing,) = standings(place.settings, [name])
    assert standing.headline == "The images differ, and an alarm waits until further checks find it too"
    assert "An alarm needs drift in 2 of the last 3 checks; so far it is 1." in first_of_two.reasons
    plain = again(test="mmd")
    assert (plain.decision, "cause" in plain.measured) == ("alarm", False)
    rested = again(cooldown=100)  # the first model's training is no retraining to rest from
    assert (rested.decision, rested.measured["resting"]) == ("alarm", 0)

    # A night like the reference: nothing, and where every difference counts as significant, one that is small.
    quiet = night(place, 3, 90, 140)
    check(place, quiet)
    assert _newest(place).decision == "clean"
    done = check(under(place, alpha=0.999, min_effect=0.99, on_alarm="notify"), quiet, force=True)
    small = _newest(place)
    assert (done["decision"], done["next"], small.measured["signal"]) == ("watch", "score", False)
    assert small.p_value <= 0.999
    assert small.measured["effect"]["high"] < 0.99
    assert any("less than what counts here (min_effect 0.99)" in reason for reason in small.reasons)


class Killed(BaseException):
    """Stands for a kill: nothing of ours turns it into something else."""


def die(*args: object) -> None:
    """In place of whatever a killed process never came to."""
    raise Killed


def test_an_alarm_waits_for_a_second_finding_and_rests_after_a_retraining(
    champion: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name = under(champion, consecutive=(2, 2), cooldown=2), champion.stream.name
    second = night(place, 2, 60, 75, changed=True)
    monkeypatch.setattr(place.catalog, "record_check", die)
    with pytest.raises(Killed):
        check(place)
    monkeypatch.undo()
    found = made(place, check(place))  # killed before it was written, it decides the same
    assert (found.decision, found.measured["signal"]) == ("watch", True)
    twin = json.loads(place.store.get_artifact(keys.report(name, found.id, "json")))
    assert twin["test"]["p_value"] == found.p_value
    # The same batch again is no second night.
    assert place.catalog.check(check(place, second, force=True)["check"]).decision == "watch"
    third = night(place, 3, 75, 115, changed=True)
    alarm = check(place)
    assert (alarm["decision"], made(place, alarm).batch_ids) == ("alarm", (third,))
    assert made(place, alarm).measured["earlier_signals"] == 1
    # The images changed when drift was first found, not when it became an alarm.
    assert place.catalog.last_drift_batch(name) == second
    # What an older version of this code wrote says nothing of signals: there only alarms are some.
    with place.catalog._cursor() as cursor:
        cursor.execute("update tidemark.drift_check set measured = null where batch_ids[1] = %s", (second,))
    old = place.catalog.check(found.id)
    assert old is not None
    assert old.measured == {}
    assert place.catalog.last_drift_batch(name) == third
    assert place.catalog.earlier_signals(name, 1, third + 1, 5) == [True, False]

    assert retrain(place)["outcome"] in {"promoted", "rejected"}
    place = under(place, consecutive=(1, 1), cooldown=2, alpha=0.999, min_effect=0.5)
    decisions, steps = [], []
    for number, start in ((4, 115), (5, 130), (6, 145)):
        night(place, number, start, start + 15)
        found = made(place, check(place))
        decisions.append((found.decision, found.measured["resting"], found.measured["signal"]))
        steps.append(report_of(place, found)["next_steps"][0])
    assert decisions == [("watch", 2, True), ("watch", 1, True), ("alarm", 0, True)]
    assert steps[0].endswith("if the difference lasts, the first check after the cooldown raises an alarm.")
    assert steps[1].endswith("if the next check finds the difference too, that is an alarm.")


def test_on_alarm_notify_retrains_nothing_by_itself(place: Workplace) -> None:
    place = under(place, on_alarm="notify")
    night(place, 1, 0, 60)
    assert check(place)["next"] == "retrain"  # there is no model that could go on
    retrain(place)
    night(place, 2, 60, 90, changed=True)
    done = check(place)
    assert (done["decision"], done["next"]) == ("alarm", "score")
    report = place.store.get_artifact(keys.report(place.stream.name, done["check"])).decode()
    assert f"tidemark retrain {place.stream.name}" in report
    again = check(place)  # nothing stands: as after any other check
    assert (again["check"], again["next"], again["checks"]) == (done["check"], "score", [])
    night(place, 3, 90, 110)
    assert check(place)["decision"] == "clean"
    # Whoever retrains by hand answers the alarm; asked to retrain by itself, the stream would have done so.
    assert check(under(place, on_alarm="retrain"))["next"] == "retrain"
    retrain(place)
    assert place.catalog.retrainings(place.stream.name)[-1].check_id == done["check"]


def test_images_without_labels_have_an_expected_accuracy_and_a_rest(champion: Workplace) -> None:
    place = champion
    store = ObjectStore.from_settings(place.settings)
    for digit in (0, 1, 4):
        for number, data in enumerate(scans(digit, 60, 75, changed=True)):
            store.put_image(f"{place.stream.prefix}{digit}-{number}.png", data, "image/png")
    ingest(place)
    done = check(place)
    found = made(place, done)
    assert done["decision"] == "alarm"
    assert "measured" not in found.measured
    assert found.measured["expected"]["images"] == 45
    assert any("By its own confidence" in reason for reason in found.reasons)
    steps = report_of(place, found)["next_steps"]
    assert steps[0] == "The retraining waits until 20 new images have labels (data.min_new_labels); so far none has."
    assert retrain(place)["outcome"] == "waiting for labels"
    # Where none are waited for, nothing can be learnt, and the next nights do not ask for it again and again.
    data = place.stream.data.model_copy(update={"min_new_labels": 0})
    at_once = replace(place, stream=place.stream.model_copy(update={"data": data}))
    assert retrain(at_once)["outcome"] == "unchanged"
    night(place, 3, 75, 95, changed=True)
    rests = made(place, check(place))
    assert (rests.decision, rests.measured["resting"]) == ("watch", 3)


def test_a_reference_of_few_labels_cannot_price_a_drift(place: Workplace) -> None:
    place = replace(
        place,
        stream=place.stream.model_copy(
            update={"reference": place.stream.reference.model_copy(update={"max_images": 30})}
        ),
    )
    night(place, 1, 0, 60)
    store = ObjectStore.from_settings(place.settings)
    for digit in (0, 1, 4):
        for number, data in enumerate(scans(digit, 60, 110)):
            store.put_image(f"{place.stream.prefix}{digit}-{number}.png", data, "image/png")
    ingest(place)
    check(place)
    retrain(place)
    reference = load_reference(place, 1)
    assert len(reference) == 30
    assert reference.calibration == {}  # the newest holdout images have no labels
    assert reference.rehearsal == {}  # and they are too few to spare some
    night(place, 3, 110, 140, changed=True)
    found = made(place, check(under(place, min_accuracy_drop=0.05)))
    assert found.decision == "alarm"
    assert "expected" not in found.measured
    assert any("What that costs is not known" in reason for reason in found.reasons)


def test_near_duplicates_wait_for_other_pictures_and_an_older_reference_serves(champion: Workplace) -> None:
    place = champion
    store = ObjectStore.from_settings(place.settings)
    (scan,) = scans(4, 60, 61)
    for number in range(20):  # the same picture, other bytes
        store.put_image(f"{place.stream.prefix}night-2/4/{number}.png", scan + bytes([number]), "image/png")
    second = ingest(place)
    assert second["accepted"] == 20
    waits = made(place, check(place))
    assert waits.decision == "pending"
    assert waits.reasons == (
        "Near duplicates count once, and 20 images count as 1: a check needs 12 and waits for 11 more.",
    )
    assert kept_embeddings(place, 1, waits.batch_ids) is None  # nobody embeds them again every night
    assert check(place)["check"] == waits.id  # nor is there another check of them, as long as none has come
    third = night(place, 3, 61, 71)
    together = made(place, check(place))
    assert together.decision == "clean"
    assert together.batch_ids == (second["batch"], third)

    # Two classes stay away. The reference is as an older version of this code froze it: without calibration, and with
    # a rehearsal that cannot be read any more.
    key = keys.reference(place.stream.name, 1)
    whole = load_reference(place, 1)
    place.store.delete_artifacts(key)
    unreadable = {**whole.rehearsal, "format": np.array(0)}
    place.store.put_artifact(key, replace(whole, rehearsal=unreadable, calibration={}).to_bytes())
    night(place, 4, 90, 120, digits=[4])
    found = made(place, check(place))
    assert (found.decision, found.test, "cause" in found.measured) == ("alarm", "ensemble", False)
    tested = {item["name"]: item["p_value"] for item in found.measured["classes"]}
    assert tested["4"] is not None
    assert tested["0"] is None
    # The labels of today calibrate what is expected.
    assert found.measured["expected"]["baseline"] == drift.Calibration.from_arrays(whole.calibration).accuracy
