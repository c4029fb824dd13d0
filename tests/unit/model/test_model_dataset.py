from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pipeline.model.augment import augment, seeded
from pipeline.model.dataset import Batches, LabelledPixels, as_it_is, stratified_split
from pipeline.recipe import TrainPolicy

LABELS = np.repeat(np.arange(4), [50, 20, 3, 1])


def test_every_class_gives_its_share_to_validation() -> None:
    training, validation = stratified_split(LABELS, 0.1, seed=0)
    assert np.bincount(LABELS[validation], minlength=4).tolist() == [5, 2, 1, 0]
    assert sorted([*training, *validation]) == list(range(len(LABELS)))


def test_even_a_large_share_leaves_each_class_something_to_learn_from() -> None:
    training, _ = stratified_split(LABELS, 0.99, seed=0)
    assert np.bincount(LABELS[training], minlength=4).tolist() == [1, 1, 1, 1]


def test_the_split_follows_the_seed() -> None:
    first, again, other = (stratified_split(LABELS, 0.3, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_classes_of_one_image_only_leave_nothing_to_validate() -> None:
    training, validation = stratified_split(np.arange(5), 0.2, seed=0)
    assert (len(training), len(validation)) == (5, 0)


def test_batches_are_slices_also_of_a_mapped_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    data = LabelledPixels(np.load(tmp_path / "pixels.npy", mmap_mode="r"), np.arange(10))
    loader: DataLoader[object] = DataLoader(
        Batches(data, np.array([1, 3, 5, 7, 9])),  # type: ignore[arg-type]
        batch_size=2,
        collate_fn=as_it_is,
    )
    found = list(loader)
    assert [labels.tolist() for _, labels in found] == [[1, 3], [5, 7], [9]]  # type: ignore[misc]
    assert np.array_equal(torch.cat([part for part, _ in found]).numpy(), pixels[1::2])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (np.zeros((2, 4, 5, 3), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.array([0, -1])),
    ],
)
def test_arrays_that_do_not_fit_are_refused(pixels: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError):
        LabelledPixels(pixels, labels)


def spot(row: int, column: int, side: int = 33) -> torch.Tensor:
    pixels = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    pixels[:, row - 1 : row + 2, column - 1 : column + 2] = 255
    return pixels


def place(pixels: torch.Tensor) -> tuple[float, float]:
    """Centre of mass of one image, relative to its middle: right, down."""
    mass = pixels[0, :, :, 0].double()
    rows = torch.arange(len(mass)) - (len(mass) - 1) / 2
    return float((mass.sum(0) * rows).sum() / mass.sum()), float((mass.sum(1) * rows).sum() / mass.sum())


def test_nothing_to_do_changes_nothing() -> None:
    pixels = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    policy = TrainPolicy(rotation=0, shift=0)
    assert torch.equal(augment(pixels, policy, seeded(0)), pixels.float())


@pytest.mark.parametrize("policy", [TrainPolicy(), TrainPolicy(rotation=0, shift=0, flip=True)])
def test_images_lie_in_memory_as_they_came(policy: TrainPolicy) -> None:
    pixels = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    assert augment(pixels, policy, seeded(0)).is_contiguous()


def test_rotation_keeps_the_distance_and_stays_below_the_largest_angle() -> None:
    policy = TrainPolicy(rotation=20, shift=0)
    angles = []
    for seed in range(40):
        right, down = place(augment(spot(16, 26), policy, seeded(seed)))
        assert math.hypot(right, down) == pytest.approx(10, abs=0.2)
        angles.append(math.degrees(math.atan2(down, right)))
    assert -20.5 < min(angles) < -10
    assert 10 < max(angles) < 20.5


def test_shift_stays_below_its_share_of_the_side() -> None:
    policy = TrainPolicy(rotation=0, shift=0.2)
    places = np.array([place(augment(spot(16, 16), policy, seeded(seed))) for seed in range(40)])
    assert np.abs(places).max() <= 0.2 * 33 + 0.1
    assert (np.abs(places).max(axis=0) > 0.1 * 33).all()


def test_flip_mirrors_left_and_right_about_every_other_image() -> None:
    policy = TrainPolicy(rotation=0, shift=0, flip=True)
    batch = spot(10, 26).repeat(200, 1, 1, 1)
    result = augment(batch, policy, seeded(0))
    places = [place(image[None]) for image in result]
    assert {(round(right), round(down)) for right, down in places} == {(10, -6), (-10, -6)}
    assert 60 < sum(right < 0 for right, _ in places) < 140


def test_what_comes_in_over_the_edge_continues_the_edge() -> None:
    pixels = torch.full((4, 16, 16, 3), 200, dtype=torch.uint8)
    result = augment(pixels, TrainPolicy(rotation=45, shift=0.3), seeded(0))
    assert torch.allclose(result, torch.tensor(200.0), atol=1e-2)


def test_the_keys_decide_what_is_drawn() -> None:
    pixels = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    policy = TrainPolicy()
    assert torch.equal(augment(pixels, policy, seeded(1, 2, 3)), augment(pixels, policy, seeded(1, 2, 3)))
    assert not torch.equal(augment(pixels, policy, seeded(1, 2, 3)), augment(pixels, policy, seeded(1, 2, 4)))
