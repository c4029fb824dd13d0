"""Predictions on the spot, with a real registry and store: what is read, what is said, what is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.errors import ConfigurationError, NoChampion
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.predicting import SUFFIX, predict
from pipeline.stages.score import score
from pipeline.stages.workplace import workplace
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import CHAMPION, Registry
from tests.embedded import Servers
from tests.hostile import accepted, costly_jpeg, refused
from tests.integration.colours import picture, put_in_registry
from tests.integration.commands import tidemark

NAME, BUCKET = "spots", "images-spots"


@pytest.fixture(scope="module")
def bare(servers: Servers, mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A stream with a champion, a store and no database: predict needs none."""
    folder = tmp_path_factory.mktemp("spots")
    (folder / "streams").mkdir()
    (folder / "streams" / f"{NAME}.yaml").write_text("labels: folder\nscore: {batch_size: 4}\n")
    settings = servers.settings(images=BUCKET, artifacts="artifacts-spots").model_copy(
        update={"home": folder / "home", "streams": folder / "streams", "mlflow_tracking_uri": mlflow_server}
    )
    ObjectStore.from_settings(settings).make_buckets()
    put_in_registry(settings, NAME, folder)
    yield settings
    Registry.from_settings(settings).forget(NAME)


def by_name(result: dict[str, Any]) -> dict[str, Any]:
    """File name → first class, or the code of what went wrong."""
    return {Path(item["image"]).name: item["code"] or item["top"][0]["label"] for item in result["images"]}


def test_it_says_what_scoring_says(bare: Settings, database_url: str) -> None:
    settings = bare.model_copy(update={"database_url": SecretStr(database_url)})
    store = ObjectStore.from_settings(settings)
    wanted = {}
    for number, colour in enumerate(("red", "green", "blue", "black") * 3):
        data = picture(colour, fmt=("PNG", "JPEG", "WEBP")[number % 3], size=(30 + number, 50), shade=300 * number)
        store.put_image(f"{NAME}/new/{colour}/{number}.jpg", data, "image/jpeg")
        wanted[f"{number}.jpg"] = colour
    store.put_image(f"{NAME}/new/notes.txt", b"no image", "text/plain")
    with workplace(settings, NAME) as place:
        ingest(place)
        score(place)
        with place.catalog._cursor() as cursor:
            cursor.execute("select key, top_k, sha256 from tidemark.current_prediction order by key")
            rows = {f"s3://{BUCKET}/{row['key']}": (row["top_k"], row["sha256"]) for row in cursor.fetchall()}
    assert len(rows) == 12
    result = predict(bare, NAME, [f"s3://{BUCKET}/{NAME}/new/"])
    assert by_name(result) == wanted
    assert (result["predicted"], result["failed"], result["left_out"], result["model"]) == (12, 0, 1, 1)
    for item in result["images"]:
        top_k, sha256 = rows[item["image"]]
        assert [[best["label"], pytest.approx(best["probability"], abs=1e-5)] for best in item["top"]] == top_k
        assert item["sha256"] == sha256
    one = predict(bare, NAME, [f"s3://{BUCKET}/{NAME}/new/red/0.jpg"], version=1)
    assert by_name(one) == {"0.jpg": "red"}


def test_hostile_files_have_their_reason_and_cost_the_others_nothing(bare: Settings, tmp_path: Path) -> None:
    wanted = {}
    for name, (data, code) in {**refused(), **accepted()}.items():
        (tmp_path / name).write_bytes(data)
        wanted[name] = code
    named = predict(bare, NAME, [str(tmp_path / name) for name in wanted])
    found = {Path(item["image"]).name: item for item in named["images"]}
    assert list(found) == list(wanted)
    assert {name: item["code"] for name, item in found.items()} == wanted
    assert all(len(item["top"]) == 3 for item in found.values() if item["code"] is None)
    assert all(item["error"] and not item["top"] for item in found.values() if item["code"] is not None)
    assert named["failed"] == len(refused())

    # The folder as a whole: what neither is an image nor calls itself one is left out, and that is no failure.
    walked = predict(bare, NAME, [str(tmp_path)])
    shown = {Path(item["image"]).name for item in walked["images"]}
    left = set(wanted) - shown
    assert walked["left_out"] == len(left)
    assert {"noise.bin", "scan.pdf", "photo.jpg.gz", "layers.psd"} <= left
    assert not left & set(accepted())
    assert {"error-page.jpg", "notes.jpg", "half.jpg", "photo.heic", "photo.avif"} <= shown


def test_what_is_named_is_found_or_has_its_line(bare: Settings, tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside.png"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (tmp_path / "empty").mkdir()
    for path in (folder / "b.png", folder / "sub" / "c.png", folder / ".hidden" / "d.png", folder / ".e.png", outside):
        path.write_bytes(picture("green"))
    (folder / "a.png").symlink_to("b.png")
    (folder / "out.png").symlink_to(outside)
    (folder / "nowhere.png").symlink_to("nothing")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe.png")
    names = [str(folder), str(folder / "b.png"), str(outside), str(tmp_path / "pipe.png"), str(tmp_path / "no.png")]
    names += [str(tmp_path / "empty"), f"s3://{BUCKET}/{NAME}/no.png", f"s3://{BUCKET}/no/", "s3://other/a.png"]
    names += ["n" * 300 + ".png", f"s3://{BUCKET}/{'n' * 1100}.png"]
    result = predict(bare, NAME, names)
    assert [(Path(item["image"]).name, item["code"]) for item in result["images"]] == [
        ("a.png", None),
        ("b.png", None),  # once, though it is named again
        ("c.png", None),
        ("outside.png", None),
        ("pipe.png", "no_file"),
        ("no.png", "missing"),
        ("empty", "empty_folder"),
        ("no.png", "missing"),
        ("no", "empty_folder"),
        ("a.png", "other_bucket"),
        ("n" * 300 + ".png", "unreadable"),
        ("n" * 1100 + ".png", "missing"),
    ]
    assert (result["predicted"], result["failed"]) == (4, 8)


def test_the_streams_limits_hold(bare: Settings, tmp_path: Path) -> None:
    strict = bare.model_copy(update={"streams": tmp_path})
    (tmp_path / f"{NAME}.yaml").write_text("ingest: {max_bytes: 2000000, max_seconds: 1}\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "costly.jpg").write_bytes(costly_jpeg())
    (folder / "fine.png").write_bytes(picture("red"))
    (folder / "large.png").write_bytes(picture("red") + bytes(2_000_000))
    (folder / "film.mp4").write_bytes(bytes(4) + b"ftypisom" + bytes(2_000_000))  # no image, so it is no failure
    result = predict(strict, NAME, [str(folder)])
    assert by_name(result) == {"costly.jpg": "too_costly", "fine.png": "red", "large.png": "too_large"}
    assert result["left_out"] == 1
    store = ObjectStore.from_settings(bare)
    for name in ("large.png", "film.mp4", "fine.png"):
        store.put_image(f"{NAME}/limits/{name}", (folder / name).read_bytes(), "image/png")
    kept = predict(strict, NAME, [f"s3://{BUCKET}/{NAME}/limits/"])
    assert (by_name(kept), kept["left_out"]) == ({"fine.png": "red", "large.png": "too_large"}, 1)


def test_a_file_beside_each_image_and_nobody_elses_is_touched(bare: Settings, tmp_path: Path) -> None:
    for name in ("new", "ours", "theirs", "link", "folder", "x" * 250):
        (tmp_path / name).write_bytes(picture("blue"))
    (tmp_path / "bad.png").write_bytes(b"")
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text('{"tidemark": "prediction"}')
    (tmp_path / f"ours{SUFFIX}").write_text('{"tidemark": "prediction", "model_version": 0}')
    (tmp_path / f"theirs{SUFFIX}").write_text('{"annotation": "by hand"}')
    (tmp_path / f"link{SUFFIX}").symlink_to(elsewhere)
    (tmp_path / f"folder{SUFFIX}").mkdir()
    before = {path.name for path in tmp_path.iterdir()}
    result = predict(bare, NAME, [str(tmp_path)], beside=True)
    assert by_name(result) == {
        "bad.png": "empty",
        "folder": "not_written",
        "link": "not_written",
        "new": "blue",
        "ours": "blue",
        "theirs": "not_written",
        "x" * 250: "not_written",
    }
    assert {path.name for path in tmp_path.iterdir()} - before == {f"new{SUFFIX}"}
    for name in ("new", "ours"):
        content = json.loads((tmp_path / f"{name}{SUFFIX}").read_text())
        assert (content["tidemark"], content["image"], content["model_version"]) == ("prediction", name, 1)
        assert content["sha256"] == hashlib.sha256(picture("blue")).hexdigest()
        assert content["top"][0]["label"] == "blue"
        assert len(content["top"]) == 3
    assert (tmp_path / f"theirs{SUFFIX}").read_text() == '{"annotation": "by hand"}'
    assert elsewhere.read_text() == '{"tidemark": "prediction"}'
    assert predict(bare, NAME, [str(tmp_path)], beside=True)["left_out"] == 5  # our own files are no images
    with pytest.raises(ConfigurationError, match="the image bucket is only read"):
        predict(bare, NAME, [str(tmp_path), f"s3://{BUCKET}/a.png"], beside=True)


def test_it_asks_for_a_model_that_there_is(bare: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no model version 9; its versions: 1"):
        predict(bare, NAME, [str(tmp_path)], version=9)
    registry = Registry.from_settings(bare)
    registry.drop_alias(NAME, CHAMPION)
    try:
        with pytest.raises(NoChampion):
            predict(bare, NAME, [str(tmp_path)])
    finally:
        registry.set_alias(NAME, CHAMPION, 1)


def test_the_command_for_people_and_for_machines(bare: Settings, tmp_path: Path) -> None:
    (tmp_path / "red.jpg").write_bytes(picture("red", fmt="JPEG"))
    (tmp_path / "\x1b[2Jclear [bold].png").write_bytes(picture("green"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(picture("blue"))
    fine = tidemark(bare, "predict", NAME, str(tmp_path))
    assert fine.returncode == 0, fine.stderr
    assert "\x1b" not in fine.stdout + fine.stderr
    for said in ("red 0.9", "green 0.9", "blue 0.9", "[bold]", "\\x1b[2J", "xff"):
        assert said in fine.stdout
    (tmp_path / "\x1b[2Jbroken.png").write_bytes(picture("green")[:60])
    people = tidemark(bare, "predict", NAME, str(tmp_path))
    assert people.returncode == 1
    assert "red 0.9" in people.stdout
    assert "damaged" in people.stdout
    assert "\x1b" not in people.stdout + people.stderr
    assert "Traceback" not in people.stderr
    machines = tidemark(bare, "predict", NAME, str(tmp_path), "--json", "--out")
    assert machines.returncode == 1
    result = json.loads(machines.stdout)
    assert (result["predicted"], result["failed"], result["model"]) == (3, 1, 1)
    assert sum(path.name.endswith(SUFFIX) for path in tmp_path.iterdir()) == 3
