"""What is not let in: the share that stops a run, reasons, and the way back in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import ConfigurationError, ImageRejected, ObjectMissing, SourceBroken
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.quarantine import quarantine, retry
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage.objects import ObjectStore
from tests.integration.coins import command, open_stream, place
from tests.integration.scans import scans, upload

__all__ = ["command", "place"]  # the fixtures


def test_a_batch_of_mostly_bad_objects_fails_and_is_finished_once_the_source_is_repaired(place: Workplace) -> None:
    good = scans(0, 0, 12)
    for number, data in enumerate(good):
        place.store.put_image(f"coins/0/{number:02d}.png", data if number < 8 else data[:60], "image/png")
    for _ in range(2):  # it stays broken until somebody does something
        with pytest.raises(SourceBroken, match=r"4 of the 12 new objects .*4 truncated such as 'coins/0/08.png'"):
            ingest(place)
        assert place.catalog.unchecked_batches("coins") == []
    for number, data in enumerate(good):
        place.store.put_image(f"coins/0/{number:02d}.png", data, "image/png")
    result = ingest(place)
    assert (result["accepted"], result["quarantined"], result["unchecked"]) == (12, 0, 1)
    assert len(place.catalog.batches("coins")) == 1


def test_few_objects_are_not_judged_by_their_share(place: Workplace) -> None:
    for number in range(9):
        place.store.put_image(f"coins/0/{number}.png", b"", "image/png")
    assert ingest(place)["quarantined"] == 9


def test_quarantine_lists_reasons_and_takes_up_again(settings: Settings, tmp_path: Path) -> None:
    text = "classes: [0, 1]\ningest: {min_side: 40, max_bad_share: 1}\n"
    with workplace(open_stream(settings, tmp_path, text), "coins") as strict:
        upload(settings, "coins/", 0, 6, digits=(0,))
        strict.store.put_image("coins/0/broken.png", b"no", "image/png")
        first = ingest(strict)
        listed = quarantine(strict)
        assert listed["reasons"] == {"too_small": 6, "not_an_image": 1}
        assert {row["batch"] for row in listed["objects"]} == {first["batch"]}
        assert "ingest.min_side" in quarantine(strict, "too_small", 1)["objects"][0]["reason"]
        with pytest.raises(ConfigurationError, match="there is too_small, not_an_image"):
            quarantine(strict, "nosuch")
        tried = retry(strict, "too_small")  # nothing has changed: nothing changes, and no batch is made of it
        assert (tried["tried_again"], tried["accepted"], tried["still_quarantined"], tried["batch"]) == (6, 0, 7, None)
    with workplace(open_stream(settings, tmp_path, "classes: [0, 1]\n"), "coins") as lenient:
        tried = retry(lenient)
        assert (tried["tried_again"], tried["accepted"], tried["still_quarantined"]) == (7, 6, 1)
        assert quarantine(lenient)["reasons"] == {"not_an_image": 1}
        assert ingest(lenient)["batch"] is None


def test_an_object_that_the_store_refuses_is_tried_by_every_run(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(place.settings, "coins/", 0, 5, digits=(0,))
    fetch = ObjectStore.fetch_image

    def refusing(store: ObjectStore, key: str, max_bytes: int) -> Any:
        if key == "coins/0/3.png":
            raise ImageRejected("refused", "the store refuses this object: check the rights on it")
        return fetch(store, key, max_bytes)

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "fetch_image", refusing)
        assert (ingest(place)["accepted"], ingest(place)["batch"]) == (4, None)
        assert quarantine(place)["reasons"] == {"refused": 1}
    assert ingest(place)["accepted"] == 1
    assert quarantine(place)["quarantined"] == 0


def test_what_the_store_lists_and_never_gives_uses_up_no_limit(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(place.settings, "coins/", 0, 4)
    fetch = ObjectStore.fetch_image

    def keeping_back(store: ObjectStore, key: str, max_bytes: int) -> Any:
        if key < "coins/1/":
            raise ObjectMissing("no such object")
        return fetch(store, key, max_bytes)

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "fetch_image", keeping_back)
        counts = [ingest(place, limit=3)["accepted"] for _ in range(6)]
        assert sum(counts) == 8
        assert quarantine(place)["reasons"] == {"unreadable": 4}
    assert ingest(place)["accepted"] == 4


def test_quarantine_on_the_command_line(place: Workplace, command: CliRunner) -> None:
    assert command.invoke(app, ["quarantine", "coins"]).stdout == "nothing of stream coins is in quarantine\n"
    place.store.put_image("coins/0/\x1b[31mred [bold]x.png", b"", "image/png")
    place.store.put_image("coins/0/good.png", scans(0, 0, 1)[0], "image/png")
    ingest(place)
    shown = command.invoke(app, ["quarantine", "coins"]).stdout
    assert "1 in quarantine: 1 empty" in shown
    assert "\x1b" not in shown
    assert "[bold]" in shown
    told = json.loads(command.invoke(app, ["quarantine", "coins", "--json"]).stdout)
    assert told["objects"][0]["key"] == "coins/0/\x1b[31mred [bold]x.png"
    again = json.loads(command.invoke(app, ["quarantine", "coins", "--retry", "--json"]).stdout)
    assert (again["tried_again"], again["still_quarantined"]) == (1, 1)
    wrong = command.invoke(app, ["quarantine", "coins", "--reason", "nosuch", "--json"])
    assert wrong.exit_code == 2
    assert "there is empty" in json.loads(wrong.stdout)["error"]
