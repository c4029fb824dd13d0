"""What the demo may forget, and what it must not touch."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.local.demo_images import folder_of, scans, write_night
from pipeline.local.demo_reset import require_own_keys
from pipeline.settings import Settings
from pipeline.stages.push import push
from pipeline.stages.workplace import workplace


@pytest.fixture
def demo_settings(settings: Settings, tmp_path: Path) -> Settings:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "digits.yaml").write_text("description: the demo's stream\n")
    return settings.model_copy(update={"streams": streams})


def test_the_demos_own_images_are_its_own(demo_settings: Settings, tmp_path: Path) -> None:
    count = write_night(2, tmp_path / "night")
    assert push(demo_settings, "digits", tmp_path / "night", folder_of(2))["uploaded"] == count
    with workplace(demo_settings, "digits") as place:
        keys = {item.key for item in place.store.list_images("digits/")}
        assert keys == {f"digits/{scan.key}" for scan in scans() if scan.night == 2}
        require_own_keys(place)


def test_somebody_elses_image_stops_the_demo_and_stays(demo_settings: Settings) -> None:
    with workplace(demo_settings, "digits") as place:
        place.store.put_image("digits/night-1/3/holiday.png", b"mine", "image/png")
        with pytest.raises(ConfigurationError, match=r"holds 1 objects .* such as 'digits/night-1/3/holiday.png'"):
            require_own_keys(place)
        assert place.store.get_image("digits/night-1/3/holiday.png", 10) == b"mine"
