"""Scoring that is killed, doubled, cut off and overtaken: every image has one prediction all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigurationError, IncompleteScore, StoreError, StoreUnreachable
from pipeline.settings import Settings
from pipeline.stages import claims, score, shard_writer
from pipeline.stages.embeddings import Embedded
from pipeline.stages.ingest import ingest
from pipeline.stages.score import plan, score_shard
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import CHAMPION
from tests.integration.colours import picture, put_in_registry
from tests.integration.commands import ROOT, environment
from tests.integration.misbehaving import Fault, Plan, Proxy, misbehaving

IMAGES = 160
COLOURS = ("red", "green", "blue", "black")
# The command, but with cells and parts so small that these few images make many of them.
COMMAND = (
    "from pipeline.stages import claims, shard_writer as writer; claims.CELL, writer.SECONDS = 8, 0.2;"
    "from pipeline.cli import main; main()"
)


@pytest.fixture
def place(registry_settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workplace]:
    """A stream of coloured pictures with a champion that knows them, and no predictions yet."""
    name = "sc" + "".join(c for c in request.node.name if c.isalnum()).lower()[-30:]
    streams = tmp_path / "streams"
    streams.mkdir()
    # So many threads on every machine: eight lanes would have most of the images in hand before their first answer.
    score_policy = "score: {batch_size: 4, threads: 2}\n"
    (streams / f"{name}.yaml").write_text(f"labels: folder\ningest: {{workers: 4}}\n{score_policy}")
    settings = registry_settings.model_copy(update={"streams": streams})
    store = ObjectStore.from_settings(settings)
    for number in range(IMAGES):
        colour = COLOURS[number % 4]
        store.put_image(f"{name}/{colour}/{number}.png", picture(colour, shade=number), "image/png")
    put_in_registry(settings, name, tmp_path)
    with workplace(settings, name) as opened:
        ingest(opened)
        yield opened
        opened.registry.forget(name)


def started(place: Workplace, proxy: Proxy, *args: str) -> subprocess.Popen[str]:
    settings = place.settings.model_copy(update={"s3_endpoint": proxy.address})
    command = [sys.executable, "-c", COMMAND, "score", place.stream.name, "--json", *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment(settings), text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    result: dict[str, Any] = json.loads(output)
    return result


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def predicted(place: Workplace, version: int = 1) -> dict[int, str]:
    """Every row, which must be right."""
    with place.catalog._cursor() as cursor:
        cursor.execute(
            "select p.image_id, p.label, i.label as truth from tidemark.prediction p"
            " join tidemark.image i on i.id = p.image_id where p.model_version = %s and p.stream = %s",
            (version, place.stream.name),
        )
        rows = cursor.fetchall()
    assert all(row["label"] == row["truth"] for row in rows)
    return {row["image_id"]: row["label"] for row in rows}


def embedded(place: Workplace, version: int = 1) -> Counter[int]:
    """How often each image is in the files of embeddings."""
    found: Counter[int] = Counter()
    for key in place.store.list_artifacts(f"embeddings/{place.stream.name}/{version}/"):
        if key.endswith(".npz"):
            found.update(Embedded.from_bytes(place.store.get_artifact(key), key).image_ids.tolist())
    return found


def fetched(place: Workplace, proxy: Proxy) -> Counter[str]:
    start = f"/{place.store.image_bucket}/"
    return Counter(path for method, path in list(proxy.served) if method == "GET" and path.startswith(start))


def test_a_run_that_is_killed_goes_on_where_it_was(place: Workplace) -> None:
    slow = Plan(delay=1.0, seconds=0.2, in_a_row=1000)
    with misbehaving(str(place.settings.s3_endpoint), slow) as proxy:
        first = started(place, proxy)
        wait_until(lambda: len(predicted(place)) >= 24)
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=60)
        before = predicted(place)
        assert 24 <= len(before) < IMAGES
        assert set(before) <= set(embedded(place))  # where there is a prediction, its embedding is not lost
        proxy.served.clear()
        done = ended(started(place, proxy))
        again = fetched(place, proxy)
    assert (done["new"], done["predictions"], done["complete"]) == (IMAGES - len(before), IMAGES, True)
    assert len(again) == IMAGES - len(before)  # what had its prediction was not looked at again
    assert set(again.values()) == {1}
    assert len(predicted(place)) == IMAGES
    assert embedded(place) == Counter(dict.fromkeys(predicted(place), 1))
    assert len(place.store.list_artifacts(f"embeddings/{place.stream.name}/1/images-")) == 2  # of each run one
    assert not place.store.list_artifacts(f"embeddings/{place.stream.name}/1/parts/")


def test_two_runs_at_once_divide_the_work(place: Workplace) -> None:
    slow = Plan(delay=1.0, seconds=0.2, in_a_row=1000)
    with misbehaving(str(place.settings.s3_endpoint), slow) as proxy:
        runs = [started(place, proxy) for _ in range(2)]
        results = [ended(run) for run in runs]
        seen = fetched(place, proxy)
    assert len(seen) == IMAGES
    assert set(seen.values()) == {1}  # no image was looked at twice
    assert sum(result["new"] for result in results) == IMAGES
    assert min(result["new"] for result in results) >= IMAGES // 8
    assert all(result["complete"] for result in results)
    assert len(predicted(place)) == IMAGES
    assert embedded(place) == Counter(dict.fromkeys(predicted(place), 1))


def test_a_killed_run_frees_its_part_for_the_one_beside_it(place: Workplace) -> None:
    slow = Plan(delay=1.0, seconds=0.1, in_a_row=1000)
    with misbehaving(str(place.settings.s3_endpoint), slow) as proxy:
        first = started(place, proxy)
        wait_until(lambda: len(fetched(place, proxy)) >= 8)
        second = started(place, proxy)
        wait_until(lambda: len(predicted(place)) >= 24)
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=60)
        assert ended(second)["predictions"] == IMAGES


def test_a_store_that_goes_down_fails_the_shard_and_the_retry_goes_on(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "CELL", 8)
    (shard,) = plan(place)["shards"]
    images = sorted(image.key for image in place.catalog.shard_images(place.stream.name, 1, 0, 10**9))
    broken = Plan(always=dict.fromkeys(images[100:], "busy"))
    with misbehaving(str(place.settings.s3_endpoint), broken) as proxy:
        settings = place.settings.model_copy(update={"s3_endpoint": proxy.address})
        with workplace(settings, place.stream.name) as cut_off, pytest.raises(StoreError):
            score_shard(cut_off, shard, 1)
        assert proxy.faults["busy"] > 3  # it was tried again before
    before = predicted(place)
    assert score_shard(place, shard, 1)["predictions"] == IMAGES - len(before)
    assert len(predicted(place)) == IMAGES


def test_a_new_champion_ends_the_run_in_its_own_favour(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer, "IMAGES", 16)
    name = place.stream.name
    first = place.registry.version(name, 1)
    planned = plan(place)
    write = shard_writer.ShardWriter.write

    def promoted_meanwhile(self: shard_writer.ShardWriter) -> None:
        write(self)
        if place.registry.require_champion(name).version == 1:
            second = place.registry.register(name, first.run_id, place.registry.model_file(first), first.tags)
            place.registry.set_alias(name, CHAMPION, second)
            place.catalog.note_champion(name, second)

    monkeypatch.setattr(shard_writer.ShardWriter, "write", promoted_meanwhile)
    done = score.score(place)
    assert (done["version"], done["predictions"], done["new"], done["complete"]) == (2, IMAGES, IMAGES, True)
    assert 16 <= len(predicted(place, 1)) < IMAGES
    # What is left of the old run, as Airflow's tasks, ends in peace.
    left = score_shard(place, planned["shards"][0], 1)
    assert (left["predictions"], left["superseded"]) == (0, True)
    for version, overtaken in ((1, True), (2, False)):
        proof = score.finish(place, version, planned["up_to"])
        assert (proof["complete"], proof["superseded"]) == (not overtaken, overtaken)


def test_a_promotion_after_the_last_prediction_is_noticed(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    name = place.stream.name
    first = place.registry.version(name, 1)
    proven = score.finish

    def promoted_just_before(*args: Any) -> dict[str, Any]:
        if place.registry.require_champion(name).version == 1:
            second = place.registry.register(name, first.run_id, place.registry.model_file(first), first.tags)
            place.registry.set_alias(name, CHAMPION, second)
        return proven(*args)

    monkeypatch.setattr(score, "finish", promoted_just_before)
    done = score.score(place)
    assert (done["version"], done["predictions"], done["complete"]) == (2, IMAGES, True)
    assert len(predicted(place, 1)) == IMAGES


def test_an_image_that_comes_back_meanwhile_is_the_next_runs(place: Workplace) -> None:
    name, store = place.stream.name, place.store
    key = place.catalog.shard_images(name, 1, 0, 10**9)[0].key
    content = store.get_image(key, 10**6)
    store._client.delete_object(Bucket=store.image_bucket, Key=key)
    ingest(place)
    planned = plan(place)
    store.put_image(key, content, "image/png")
    ingest(place)  # an old image: its id is no newer than the plan's last one
    for shard in planned["shards"]:
        first = max(int(shard.split("-")[0]), 2)  # it lies before the shard, or the shard would predict it
        score_shard(place, f"{first}-{shard.split('-')[1]}", 1)
    planned_at = datetime.fromisoformat(planned["planned_at"])
    done = score.finish(place, 1, planned["up_to"], planned_at)
    assert (done["images"], done["predictions"], done["complete"]) == (IMAGES - 1, IMAGES - 1, False)
    with pytest.raises(IncompleteScore, match="1 images"):
        score.finish(place, 1, planned["up_to"])
    assert score.score(place)["complete"]


def test_an_image_that_fails_is_recorded_and_not_tried_twice_in_a_run(place: Workplace) -> None:
    name = place.stream.name
    gone, other, _, denied = (image.key for image in place.catalog.shard_images(name, 1, 0, 10**9)[:4])
    place.store._client.delete_object(Bucket=place.store.image_bucket, Key=gone)
    place.store.put_image(other, picture("red", shade=9999), "image/png")
    with misbehaving(str(place.settings.s3_endpoint), Plan(always={denied: "refuse"})) as proxy:
        done = ended(started(place, proxy))
    assert (done["predictions"], done["failures"], done["complete"]) == (IMAGES - 3, 3, True)
    with place.catalog._cursor() as cursor:
        cursor.execute("select reason from tidemark.prediction_failure order by reason")
        reasons = " ".join(row["reason"] for row in cursor.fetchall())
    assert all(said in reasons for said in ("gone from the store", "other content", "refuses to hand it out"))
    again = score.score(place)  # the next run tries them again, in case that they are back
    assert (again["new"], again["failures"]) == (1, 2)


def test_an_object_that_hangs_alone_is_recorded_and_a_store_that_does_is_down(place: Workplace) -> None:
    (shard,) = plan(place)["shards"]
    images = [image.key for image in place.catalog.shard_images(place.stream.name, 1, 0, 10**9)]
    alone: dict[str, Fault] = {images[5]: "stall"}
    all_of_them: dict[str, Fault] = dict.fromkeys(images, "hang")
    # Where the others are served, they must be so within the time, also by a busy machine.
    for always, well, silence in ((all_of_them, False, 0.2), (alone, True, 1.0)):
        with misbehaving(str(place.settings.s3_endpoint), Plan(always=always)) as proxy:
            settings = place.settings.model_copy(update={"s3_endpoint": proxy.address, "s3_timeout": silence})
            with workplace(settings, place.stream.name) as cut_off:
                if well:
                    assert score_shard(cut_off, shard, 1)["predictions"] == IMAGES - 1
                else:
                    with pytest.raises(StoreUnreachable):
                        score_shard(cut_off, shard, 1)
    found = place.catalog.completeness(place.stream.name, 1)
    assert (found.failures, found.missing) == (1, 0)


def test_cells_that_others_have_finished_are_let_go_at_once(place: Workplace) -> None:
    done = score.score(place)
    ids = (1, place.catalog.newest_image(place.stream.name))
    late = claims.Claims(place.catalog, place.stream.name, done["version"], ids, place.catalog.now())
    assert list(late.images(range(ids[1] // claims.CELL + 1))) == []
    assert len(late) == 0
    with place.catalog._cursor() as cursor:
        cursor.execute("select count(*) as held from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()")
        assert cursor.fetchone()["held"] == 0
        # Nor does a machine that was lost hold them for hours: the server asks whether it is still there.
        cursor.execute("select current_setting('tcp_keepalives_idle') as idle, inet_client_addr() is null as socket")
        assert cursor.fetchone() == {"idle": "30", "socket": False}


def test_shards_take_the_minutes_they_shall(place: Workplace) -> None:
    name, catalog = place.stream.name, place.catalog
    assert len(plan(place)["shards"]) == 1  # of 5,000 images, before any speed was measured
    catalog.note_shard(name, 1, 1, 10, 3, 0, 1000.0)  # too few to say how fast it goes
    catalog.note_shard(name, 1, 1, 10, 900, 100, 10.0)
    assert catalog.scoring_speed(name, score.SMALLEST_SHARDS) == pytest.approx(100)
    assert score._shard_size(place) == 30_000
    assert [count for _, _, count in catalog.plan_shards(name, 1, 30_000, 1000)] == [IMAGES]
    assert [count for _, _, count in catalog.plan_shards(name, 1, 50, 1000)] == [50, 50, 50, 10]
    assert [count for _, _, count in catalog.plan_shards(name, 1, 50, 2)] == [80, 80]
    assert [count for _, _, count in catalog.plan_shards(name, 1, 50, 1000, 60)] == [50, 10]
    with pytest.raises(ConfigurationError):
        score_shard(place, "1-2-3", 1)


def test_the_cache_of_models_does_not_grow(place: Workplace) -> None:
    name, registry = place.stream.name, place.registry
    first = registry.version(name, 1)
    path = registry.model_file(first)
    folder = path.parent
    week = time.time() - 7 * 24 * 3600
    for number in range(10):
        old = folder / f"{number + 50}-old.onnx"
        old.write_bytes(b"x")
        os.utime(old, (week + number, week + number))
    (folder / "tmp-of-a-kill").mkdir()
    os.utime(folder / "tmp-of-a-kill", (week, week))
    second = registry.version(name, registry.register(name, first.run_id, path, first.tags))
    assert registry.model_file(second).is_file()
    assert sorted(item.name for item in folder.iterdir()) == sorted(
        [path.name, registry.model_file(second).name, "59-old.onnx"]
    )
    assert registry.version(name, second.version).tags["sha256"] == first.tags["sha256"]
    with pytest.raises(ConfigurationError, match=r"no model version 99; its versions: 1, 2$"):
        registry.version(name, 99)
