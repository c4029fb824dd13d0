from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.local import demo_images


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    for night in demo_images.NIGHTS:
        demo_images.write_night(night, folder / demo_images.folder_of(night))
    return folder


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.png"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_each_night_has_about_its_number_of_images(nights: Path) -> None:
    for night, size in demo_images.NIGHTS.items():
        found = list((nights / demo_images.folder_of(night)).rglob("*.png"))
        assert abs(len(found) - size) <= 5


def test_no_digit_is_shown_twice_and_no_two_files_are_equal(nights: Path) -> None:
    shown = Counter(scan.number for scan in demo_images.scans())
    assert max(shown.values()) == 1
    assert len(set(hashes(nights).values())) == len(shown)


def test_the_keys_are_known_beforehand(nights: Path) -> None:
    assert set(hashes(nights)) == {scan.key for scan in demo_images.scans()}


def test_every_night_has_every_class_in_its_share(nights: Path) -> None:
    everything = Counter(scan.label for scan in demo_images.scans())
    assert set(everything) == set("0123456789")
    for night, size in demo_images.NIGHTS.items():
        here = Counter(scan.label for scan in demo_images.scans() if scan.night == night)
        for label, count in here.items():
            assert abs(count - everything[label] * size / sum(demo_images.NIGHTS.values())) <= 1.5


def test_the_same_bytes_come_again(nights: Path, tmp_path: Path) -> None:
    demo_images.write_night(3, tmp_path)
    assert hashes(tmp_path) == hashes(nights / "night-3")


def test_the_changed_scanner_is_another_one(nights: Path) -> None:
    def brightness(night: int) -> float:
        folder = nights / demo_images.folder_of(night)
        return float(np.mean([np.asarray(Image.open(path)).mean() for path in folder.rglob("*.png")]))

    assert brightness(1) == pytest.approx(brightness(2), abs=3)
    assert brightness(3) < brightness(1) - 80
    with Image.open(next(nights.rglob("*.png"))) as picture:
        assert picture.size == (32, 32)
        assert picture.mode == "L"
