"""Ingest over a store that times out, resets connections, answers 503 and cuts bodies: it costs retries, not images."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import StoreUnreachable
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.quarantine import quarantine
from pipeline.stages.workplace import workplace
from tests.integration.misbehaving import Plan, misbehaving
from tests.integration.scans import upload


@pytest.fixture
def coins(settings: Settings, tmp_path: Path) -> Settings:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "coins.yaml").write_text("classes: [0, 1, 4]\n")
    return settings.model_copy(update={"streams": streams})


def through(settings: Settings, address: str) -> Settings:
    return settings.model_copy(update={"s3_endpoint": address, "s3_timeout": 1.0})


def test_bad_days_cost_retries_not_images(coins: Settings) -> None:
    uploaded = upload(coins, "coins/", 0, 25)
    plan = Plan(seed=3, hang=0.03, reset=0.1, busy=0.1, error=0.05, cut=0.1, stall=0.02, delay=0.1, in_a_row=2)
    with misbehaving(str(coins.s3_endpoint), plan) as proxy:
        with workplace(through(coins, proxy.address), "coins") as place:
            result = ingest(place)
        assert (result["accepted"], result["quarantined"]) == (uploaded, 0)
        for fault in ("hang", "reset", "busy", "cut"):
            assert proxy.faults[fault] > 0, proxy.faults
    with workplace(coins, "coins") as place:
        assert ingest(place)["batch"] is None


def test_one_object_that_the_store_keeps_back_is_the_only_one_missing(coins: Settings) -> None:
    uploaded = upload(coins, "coins/", 0, 5)
    with (
        misbehaving(str(coins.s3_endpoint), Plan(always={"coins/0/3.png": "refuse"})) as proxy,
        workplace(through(coins, proxy.address), "coins") as place,
    ):
        result = ingest(place)
        assert (result["accepted"], result["quarantined"]) == (uploaded - 1, 1)
        (kept_back,) = quarantine(place)["objects"]
        assert (kept_back["key"], kept_back["code"]) == ("coins/0/3.png", "refused")


def test_a_store_that_never_gives_an_object_ends_the_run_and_the_next_one_goes_on(coins: Settings) -> None:
    uploaded = upload(coins, "coins/", 0, 5)
    with (
        misbehaving(str(coins.s3_endpoint), Plan(always={"coins/4/4.png": "reset"})) as proxy,
        workplace(through(coins, proxy.address), "coins") as place,
        pytest.raises(StoreUnreachable, match="run this again") as caught,
    ):
        ingest(place)
    assert "\n" not in str(caught.value)
    with workplace(coins, "coins") as place:
        result = ingest(place)
        assert (result["accepted"], result["quarantined"]) == (uploaded, 0)
        assert len(place.catalog.batches("coins")) == 1
