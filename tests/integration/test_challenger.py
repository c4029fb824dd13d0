"""How a challenger is made on real services: a kill and a retry, reserved numbers, a warm start, kept images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.model.inference import Classifier
from pipeline.settings import Settings
from pipeline.stages import challenger
from pipeline.stages.ingest import ingest
from pipeline.stages.retrain import retrain
from pipeline.stages.workplace import Workplace, workplace
from tests.integration.scans import STREAM, upload

NAME = "warmstart"
RECIPE = STREAM.replace("{architecture: resnet10t,", "{architecture: test_resnet, weights: champion,").replace(
    "learning_rate: 0.002, patience: 6, threads: 2", "learning_rate: 0.004, patience: 6, threads: 1"
)


@pytest.fixture
def place(registry_settings: Settings, tmp_path: Path) -> Iterator[Workplace]:
    streams = tmp_path / "streams"
    streams.mkdir()
    more = "export: {quantize: int8, max_loss: 0.9, min_speedup: 1}\ntrainer: {tensorboard: true}\n"
    (streams / f"{NAME}.yaml").write_text(RECIPE + more)
    with workplace(registry_settings.model_copy(update={"streams": streams}), NAME) as opened:
        upload(opened.settings, f"{NAME}/night-1/", 0, 60)
        ingest(opened)
        yield opened


class Killed(BaseException):
    """What nothing catches."""


def test_a_challenger_is_made_and_made_again(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pipeline")

    def die(*args: object, **options: object) -> None:
        raise Killed

    # Killed with a number reserved and the file not kept: nobody sees a version.
    monkeypatch.setattr(place.registry, "keep_model", die)
    with pytest.raises(Killed):
        retrain(place)
    monkeypatch.undo()
    assert place.registry.versions(NAME) == []
    assert "there is no champion yet: beginning with model.first_weights" in caplog.text
    caplog.clear()

    # The retry trains no epoch again, and gives the number back that nobody used.
    done = retrain(place)
    assert "going on after its epoch 6" in caplog.text
    assert done["outcome"] == "promoted"
    (version,) = place.registry.versions(NAME)
    assert version.version == done["version"]
    classifier = Classifier(place.registry.model_file(version), 1)
    assert classifier.metadata.version == version.version
    assert classifier.metadata.snapshot == version.tags["snapshot"]
    client = place.registry._client
    epochs = client.get_metric_history(version.run_id, "validation_balanced_accuracy")
    assert [item.step for item in epochs] == list(range(1, 7))
    drawn = EventAccumulator(str(place.settings.home / "tensorboard" / NAME / version.run_id)).Reload()
    curve = drawn.Scalars("validation_balanced_accuracy")
    assert [(item.step, pytest.approx(item.value)) for item in curve] == [(item.step, item.value) for item in epochs]
    metrics = client.get_run(version.run_id).data.metrics
    assert metrics["export_largest_difference"] < 1e-4
    assert metrics["quantized_images"] > 20
    assert 0 < metrics["quantized_int8_accuracy"] <= 1
    assert ("quantized" in classifier.metadata.extra) == bool(metrics["quantized_used"])
    assert not list((place.settings.home / "training" / NAME).iterdir())

    # The next one begins with the champion's weights, and fetches only the images that are new.
    fetched: list[str] = []
    fetch = place.store.get_image

    def count(key: str, max_bytes: int) -> bytes:
        fetched.append(key)
        return fetch(key, max_bytes)

    upload(place.settings, f"{NAME}/night-2/", 60, 70)
    ingest(place)
    monkeypatch.setattr(place.store, "get_image", count)
    monkeypatch.setattr(challenger, "EXPORT_SAMPLES", 20)
    begun: list[str] = []
    read = place.registry.run_file

    def look(*arguments: object) -> Path | None:
        path = read(*arguments)  # type: ignore[arg-type]
        begun.append(str(path and path.name))
        return path

    monkeypatch.setattr(place.registry, "run_file", look)
    again = retrain(place)
    assert again["version"] == version.version + 1
    assert begun == ["network.safetensors"]
    # Freezing a reference fetches holdout images by itself; training and evaluation fetch none of the old ones.
    old = {image.key for image in place.catalog.labelled_images(NAME) if image.batch_id == 1}
    training = {image.key for image in place.catalog.labelled_images(NAME) if image.split == "training"}
    assert training & set(fetched)
    assert not old & training & set(fetched)
