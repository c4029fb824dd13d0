from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, MODEL, TRAIN, Digits, Run

from pipeline.errors import TrainingFailed, TrainingImpossible
from pipeline.model.dataset import LabelledPixels
from pipeline.model.resume import FILE
from pipeline.model.train import EpochReport, Trained, train


def some(digits: Digits, count: int) -> LabelledPixels:
    return LabelledPixels(digits.training.pixels[:count], digits.training.labels[:count])


def test_it_learns(run: Run, digits: Digits) -> None:
    with torch.inference_mode():
        probabilities, _ = run.trained.network(torch.from_numpy(digits.holdout.pixels))
    assert (probabilities.argmax(1).numpy() == digits.holdout.labels).mean() > 0.85


def test_each_epoch_is_told_as_it_ends(run: Run) -> None:
    assert [report.epoch for report in run.told] == list(range(1, TRAIN.epochs + 1))
    assert run.told == run.trained.history
    assert run.told[-1].training_loss < run.told[0].training_loss
    assert all(report.seconds > 0 and 0 <= report.validation_accuracy <= 1 for report in run.told)
    rates = [report.learning_rate for report in run.told]
    assert max(rates) <= TRAIN.learning_rate
    assert rates[-1] < 0.2 * max(rates)


def test_the_best_epoch_is_the_one_that_is_kept(run: Run, digits: Digits) -> None:
    losses = [report.validation_loss for report in run.told]
    assert run.trained.best_epoch == int(np.argmin(losses)) + 1
    assert run.trained.best.validation_loss == min(losses)
    assert not run.trained.network.training


def test_facts_of_the_training_are_kept(run: Run) -> None:
    trained = run.trained
    assert trained.classes == CLASSES
    assert trained.preprocessing.size == 32
    assert trained.training_images + trained.validation_images == 600
    assert 50 <= trained.validation_images <= 70
    assert trained.parameters > 100_000


def test_one_checkpoint_lies_in_the_work_dir(run: Run) -> None:
    assert [path.name for path in run.work_dir.rglob("*")] == [FILE]


def short(digits: Digits, work_dir: Path, **changes: object) -> Trained:
    policy = TRAIN.model_copy(update={"epochs": 2, **changes})
    return train(some(digits, 120), CLASSES, MODEL, policy, work_dir=work_dir)


def test_equal_arguments_give_equal_weights_and_leave_the_process_as_it_was(digits: Digits, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = short(digits, tmp_path / "first")
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    torch.rand(5)
    again, other = short(digits, tmp_path / "again"), short(digits, tmp_path / "other", seed=1)
    state, same, different = (item.network.state_dict() for item in (first, again, other))
    assert all(torch.equal(state[key], same[key]) for key in state)
    assert not all(torch.equal(state[key], different[key]) for key in state)
    assert [report.validation_loss for report in first.history] == [r.validation_loss for r in again.history]


def test_it_stops_when_nothing_gets_better(digits: Digits, tmp_path: Path) -> None:
    # At such a learning rate nothing moves: the first epoch's normalisation statistics aside, every epoch is alike.
    trained = short(digits, tmp_path, epochs=30, learning_rate=1e-12, patience=1)
    assert len(trained.history) < 30
    assert trained.best_epoch <= len(trained.history) - 1


def test_it_says_nothing_by_itself(digits: Digits, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    short(digits, tmp_path, epochs=1)
    assert capfd.readouterr() == ("", "")


def test_a_loss_that_is_not_a_number_ends_the_training(digits: Digits, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"not a finite number after epoch \d+ of 2: lower train.learning_rate"):
        short(digits, tmp_path, learning_rate=1e30)
    assert list(tmp_path.rglob("*")) == []


def test_whoever_listens_can_end_the_training(digits: Digits, tmp_path: Path) -> None:
    def listen(report: EpochReport) -> None:
        raise LookupError(report.epoch)

    with pytest.raises(LookupError):
        train(some(digits, 60), CLASSES, MODEL, TRAIN, work_dir=tmp_path, on_epoch=listen)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_as_an_interruption(digits: Digits, tmp_path: Path, number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def listen(report: EpochReport) -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        train(some(digits, 60), CLASSES, MODEL, TRAIN, work_dir=tmp_path, on_epoch=listen)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert {path.name for path in tmp_path.rglob("*")} <= {FILE}  # nothing half written


def test_one_class_only_says_what_to_add(digits: Digits, tmp_path: Path) -> None:
    data = LabelledPixels(digits.training.pixels[:40], np.full(40, 3))
    with pytest.raises(TrainingImpossible, match="all 40 labelled training images are of class '3': add"):
        train(data, CLASSES, MODEL, TRAIN, work_dir=tmp_path)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_images_say_how_many_are_needed(digits: Digits, tmp_path: Path, count: int) -> None:
    with pytest.raises(TrainingImpossible, match=f"{count} labelled training images are too few .* at least 10"):
        train(some(digits, count), CLASSES, MODEL, TRAIN, work_dir=tmp_path)


def test_single_images_of_every_class_leave_nothing_to_stop_by(digits: Digits, tmp_path: Path) -> None:
    data = LabelledPixels(digits.training.pixels[:10], np.arange(10))
    with pytest.raises(TrainingImpossible, match="no class has two"):
        train(data, CLASSES, MODEL, TRAIN, work_dir=tmp_path)


def test_images_of_another_size_or_class_are_a_mistake_of_the_caller(digits: Digits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_size 64"):
        train(
            some(digits, 60),
            CLASSES,
            MODEL.model_copy(update={"image_size": 64}),
            TRAIN,
            work_dir=tmp_path,
        )
    with pytest.raises(ValueError, match="none of 3 classes"):
        train(some(digits, 60), CLASSES[:3], MODEL, TRAIN, work_dir=tmp_path)


# A machine without memory or disk is had in a child process, by its limits.
POOR = """
import resource, sys
from pathlib import Path
import numpy as np
from pipeline.errors import TrainingFailed
from pipeline.model.dataset import LabelledPixels
from pipeline.model.train import train
from pipeline.recipe import ModelPolicy, TrainPolicy

def attempt(name, size, batch):
    data = LabelledPixels(np.zeros((64, size, size, 3), np.uint8), np.arange(64) % 2)
    model = ModelPolicy(architecture="test_resnet", image_size=size)
    policy = TrainPolicy(epochs=2, batch_size=batch, threads=1)
    try:
        train(data, ("a", "b"), model, policy, work_dir=Path(sys.argv[1]) / name)
        print("trained")
    except TrainingFailed as error:
        print(error)

attempt("fine", 32, 32)
# Python ignores SIGXFSZ, so that a file beyond the limit is an OSError as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
attempt("disk", 32, 32)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, resource.RLIM_INFINITY))
attempt("memory", 640, 64)
"""


def test_a_full_disk_and_a_lack_of_memory_are_told_in_a_line(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", POOR, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    fine, disk, memory = child.stdout.splitlines()
    assert fine == "trained"
    assert disk.startswith(f"checkpoints cannot be written under {tmp_path / 'disk'} (")
    assert disk.endswith("make room there")
    assert memory.startswith("out of memory with 64 images of 640 pixels a batch: lower train.batch_size")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "fine" / FILE]
