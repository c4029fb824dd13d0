"""What a recipe may ask for: that it does what it says, and that seed and interruption change nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CLASSES, MODEL, TRAIN, Digits
from pydantic import ValidationError

from pipeline.errors import ConfigurationError
from pipeline.model.dataset import LabelledPixels, Turns, balancing
from pipeline.model.learner import Learner
from pipeline.model.mixing import ImageAugment, Mixing
from pipeline.model.network import build_network
from pipeline.model.start import Start, keep_weights
from pipeline.model.train import EpochReport, Trained, train
from pipeline.recipe import ModelPolicy, TrainPolicy
from pipeline.stream import Stream

ALL = {
    "optimizer": "sgd",
    "schedule": "plateau",
    "monitor": "balanced_accuracy",
    "balance": "sampling",
    "augment": "rand-m5-mstd0.5",
    "erasing": 0.3,
    "mixup": 0.2,
    "cutmix": 0.5,
    "ema": 0.9,
    "accumulate": 2,
    "channels_last": True,
    "fraction": 0.9,
}


def few(digits: Digits, count: int = 120) -> LabelledPixels:
    return LabelledPixels(digits.training.pixels[:count], digits.training.labels[:count])


def policy(**changes: Any) -> TrainPolicy:
    return TrainPolicy.model_validate({**TRAIN.model_dump(), "epochs": 2, **changes})


def told(trained: Trained) -> list[dict[str, object]]:
    return [{key: value for key, value in asdict(report).items() if key != "seconds"} for report in trained.history]


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet"])
def test_a_recipe_with_everything_resumes_and_repeats(digits: Digits, tmp_path: Path, architecture: str) -> None:
    model = MODEL.model_copy(update={"architecture": architecture})
    recipe = policy(epochs=4, patience=3, **ALL)

    def listen(report: EpochReport) -> None:
        if report.epoch == 3 and not resumed:
            raise LookupError

    resumed = True
    whole = train(few(digits), CLASSES, model, recipe, work_dir=tmp_path / "whole")
    resumed = False
    with pytest.raises(LookupError):
        train(few(digits), CLASSES, model, recipe, work_dir=tmp_path / "cut", on_epoch=listen)
    resumed = True
    cut = train(few(digits), CLASSES, model, recipe, work_dir=tmp_path / "cut", on_epoch=listen)
    assert told(cut) == told(whole)
    expected = whole.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in cut.network.state_dict().items())
    assert whole.training_images < 0.92 * (120 - whole.validation_images)


@pytest.mark.parametrize(
    "change", [{"precision": "bf16"}, {"balance": "weights"}, {"augment": "original", "workers": 1}]
)
def test_other_ways_train_too(digits: Digits, tmp_path: Path, change: dict[str, Any]) -> None:
    trained = train(few(digits, 60), CLASSES, MODEL, policy(**change), work_dir=tmp_path)
    assert np.isfinite([report.training_loss for report in trained.history]).all()
    assert next(trained.network.parameters()).dtype == torch.float32


def test_the_average_of_the_weights_is_what_is_kept(digits: Digits, tmp_path: Path) -> None:
    plain = train(few(digits), CLASSES, MODEL, policy(patience=2), work_dir=tmp_path / "plain")
    averaged = train(few(digits), CLASSES, MODEL, policy(patience=2, ema=0.9999), work_dir=tmp_path / "averaged")
    assert plain.history[0].training_loss == averaged.history[0].training_loss  # it learns the same
    assert plain.history[0].validation_loss != averaged.history[0].validation_loss


def test_first_the_head_then_the_last_blocks(digits: Digits, tmp_path: Path) -> None:
    weights = build_network(MODEL, 10).backbone
    keep_weights(weights, CLASSES, tmp_path / "weights.safetensors")
    model = MODEL.model_copy(update={"weights": str(tmp_path / "weights.safetensors")})
    before = weights.state_dict()

    def changed(trained: Trained) -> set[str]:
        after = trained.network.backbone.state_dict()
        return {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}

    head = train(few(digits), CLASSES, model, policy(blocks=0), work_dir=tmp_path / "head")
    assert changed(head) == {"fc"}
    last = train(few(digits), CLASSES, model, policy(blocks=1), work_dir=tmp_path / "last")
    assert changed(last) == {"layer4", "fc"}
    assert last.parameters < build_network(MODEL, 10).backbone.num_features ** 2 * 40
    seen: list[float] = []
    both = train(
        few(digits),
        CLASSES,
        model,
        policy(freeze=1, epochs=2, patience=2, learning_rate=1e-2),
        work_dir=tmp_path / "both",
        on_epoch=lambda report: seen.append(report.validation_loss),
    )
    assert len(both.history) == 2
    if both.best_epoch == 2:
        assert {"conv1", "layer1", "fc"} <= changed(both)
    else:
        assert changed(both) == {"fc"}


def test_the_champions_weights_are_shrunk_and_perturbed_and_classes_keep_their_rows(tmp_path: Path) -> None:
    torch.manual_seed(1)
    champion = build_network(MODEL, 3).backbone
    keep_weights(champion, ("a", "b", "c"), tmp_path / "weights.safetensors")
    start = Start.read(tmp_path / "weights.safetensors")
    warm = ModelPolicy.model_validate({**MODEL.model_dump(), "weights": "champion"})
    torch.manual_seed(2)
    fresh = build_network(MODEL, 4).backbone.state_dict()
    torch.manual_seed(2)
    found = build_network(warm, ("b", "new", "a", "c"), start).backbone.state_dict()
    old = champion.state_dict()
    assert torch.allclose(found["conv1.0.weight"], 0.6 * old["conv1.0.weight"] + 0.01 * fresh["conv1.0.weight"])
    assert torch.equal(found["bn1.running_var"], old["bn1.running_var"])
    for row, theirs in ((0, 1), (2, 0), (3, 2)):
        expected = 0.6 * old["fc.weight"][theirs] + 0.01 * fresh["fc.weight"][row]
        assert torch.allclose(found["fc.weight"][row], expected)
    assert torch.equal(found["fc.weight"][1], fresh["fc.weight"][1])


def test_a_champion_of_another_architecture_leaves_the_first_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_weights(build_network(MODEL, 3).backbone, ("a", "b", "c"), tmp_path / "weights.safetensors")
    start = Start.read(tmp_path / "weights.safetensors")
    warm = ModelPolicy(architecture="test_efficientnet", weights="champion", image_size=32)
    build_network(warm, ("a", "b", "c"), start)
    assert "the champion is no test_efficientnet: beginning with model.first_weights" in caplog.text


def test_rare_classes_count_as_much_as_the_others() -> None:
    labels = np.repeat([0, 1, 3], [60, 30, 10])
    weights = balancing(labels, 4)
    assert [float((weights[labels] * (labels == each)).sum()) for each in (0, 1, 3)] == pytest.approx([100 / 3] * 3)
    assert weights[2] == 1
    drawn = np.concatenate([list(Turns(100, 0, weights[labels])) for _ in range(1)])
    epochs = []
    turns = Turns(100, 0, weights[labels])
    for epoch in range(20):
        turns.set_epoch(epoch)
        epochs.append(list(turns))
    assert epochs[0] == drawn.tolist()
    assert epochs[0] != epochs[1]
    shares = np.bincount(labels[np.concatenate(epochs)], minlength=4) / 2000
    assert shares == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.05)


def test_processes_that_train_together_take_turns() -> None:
    alone = Turns(11, 3)
    together = [Turns(11, 3) for _ in range(2)]
    for rank, turns in enumerate(together):
        turns.share(rank, 2)
    assert [len(turns) for turns in together] == [5, 5]
    assert sorted([*together[0], *together[1]]) == sorted(list(alone)[:10])
    judged = [Turns(5, None) for _ in range(2)]
    for rank, turns in enumerate(judged):
        turns.share(rank, 2)
    assert [list(turns) for turns in judged] == [[0, 2, 4], [1, 3]]


def test_mixing_is_drawn_from_its_seed_and_keeps_targets_whole() -> None:
    pixels = torch.rand(8, 16, 16, 3) * 255
    labels = torch.arange(8) % 3
    mixing = Mixing(policy(mixup=0.4, cutmix=1.0, erasing=0.5), 3)
    middle = torch.full((1, 3, 1, 1), 100.0)
    first, targets = mixing(pixels.clone(), labels, middle, 5)
    again, _ = mixing(pixels.clone(), labels, middle, 5)
    other, _ = mixing(pixels.clone(), labels, middle, 6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert targets.shape == (8, 3)
    assert torch.allclose(targets.sum(1), torch.ones(8))
    odd, shorter = mixing(pixels[:5].clone(), labels[:5], middle, 5)
    assert (len(odd), len(shorter)) == (4, 4)
    erased, same = Mixing(policy(erasing=1.0), 3)(pixels.clone(), labels, middle, 5)
    assert same is labels
    assert (erased == 100).all(dim=3).any(dim=1).any(dim=1).all()  # a part of each image has the middle colour


def test_timms_augmentation_follows_its_keys_and_a_wrong_string_is_told() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    augment = ImageAugment("rand-m9-n3-mstd0.5", 32, seed=1)
    keys = [(0, row, 0) for row in range(3)]
    first = augment(images, keys)
    assert first.shape == images.shape
    assert np.array_equal(first, augment(images, keys))
    assert not np.array_equal(first, augment(images, [(1, row, 0) for row in range(3)]))
    assert not np.array_equal(first, images)
    with pytest.raises(ConfigurationError, match=r"train\.augment: timm does not understand 'rand-zz9'"):
        ImageAugment("rand-zz9", 32, seed=1)


def test_the_learning_rate_falls_on_a_plateau(digits: Digits, tmp_path: Path) -> None:
    recipe = policy(schedule="plateau", learning_rate=1e-12, epochs=6, patience=3, monitor="accuracy")
    trained = train(few(digits, 60), CLASSES, MODEL, recipe, work_dir=tmp_path)
    rates = [report.learning_rate for report in trained.history]
    assert rates[0] == 1e-12
    assert rates[-1] == pytest.approx(0.2e-12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mixup": 0.2, "batch_size": 33}, "batch_size must be even"),
        ({"freeze": 2, "epochs": 2}, "freeze leaves no epoch"),
        ({"augment": "import os"}, "timm's strings"),
        ({"precision": "64"}, "precision"),
        ({"fraction": 0}, "fraction"),
        ({"ema": 1}, "ema"),
    ],
)
def test_recipes_that_cannot_be_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        policy(**change)


def test_parts_that_exclude_one_another_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"name model\.weights"):
        Stream(name="coins", train=TrainPolicy(freeze=2))
    with pytest.raises(ValidationError, match="while there is no champion"):
        ModelPolicy(weights="champion", first_weights="champion")
    assert TrainPolicy.model_validate({"precision": 16}).precision == "16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_sixteen_bits_need_a_gpu(digits: Digits, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"train\.precision 16 needs a GPU"):
        train(few(digits, 60), CLASSES, MODEL, policy(precision=16), work_dir=tmp_path)


def test_what_does_not_learn_keeps_its_statistics() -> None:
    learner = Learner(build_network(MODEL, 10), policy(blocks=1), 10)
    names = {name for name, value in learner.network.named_parameters() if value.requires_grad}
    assert {name.split(".")[1] for name in names} == {"layer4", "fc"}
