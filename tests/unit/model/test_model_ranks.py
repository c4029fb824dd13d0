"""Two processes that learn together: what they find, what is left of them, and what is said when one dies."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import torch
from conftest import CLASSES, MODEL, TRAIN, Digits

from pipeline.errors import ConfigurationError, TrainingFailed
from pipeline.model.dataset import LabelledPixels, each_once, stratified_split
from pipeline.model.job import Job
from pipeline.model.machine import machine_for
from pipeline.model.ranks import _the_cause
from pipeline.model.resume import FILE
from pipeline.model.train import EpochReport, Trained, train
from pipeline.recipe import TrainerPolicy

TWO = TrainerPolicy(accelerator="cpu", devices=2)
# The head alone at first: the processes then have no gradients of the rest to exchange.
POLICY = TRAIN.model_copy(update={"epochs": 4, "patience": 4, "freeze": 1})
IMAGES = 141  # of them 11 to validate on, which two cannot share evenly


def lesson(digits: Digits) -> LabelledPixels:
    return LabelledPixels(digits.training.pixels[:IMAGES], digits.training.labels[:IMAGES])


def told(report: EpochReport) -> dict[str, object]:
    return {key: value for key, value in asdict(report).items() if key != "seconds"}


@pytest.fixture(scope="module")
def together(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, list[EpochReport], Path]:
    heard: list[EpochReport] = []
    work_dir = tmp_path_factory.mktemp("together")
    data = lesson(digits)
    return (
        train(data, CLASSES, MODEL, POLICY, work_dir=work_dir, trainer=TWO, on_epoch=heard.append),
        heard,
        work_dir,
    )


def test_the_figures_are_of_every_validation_image_once(
    digits: Digits, together: tuple[Trained, list[EpochReport], Path]
) -> None:
    trained, heard, work_dir = together
    assert tuple(heard) == trained.history
    assert [path.name for path in work_dir.iterdir()] == [FILE]
    data = lesson(digits)
    validation = stratified_split(data.labels, POLICY.validation_share, POLICY.seed)[1]
    assert len(validation) == trained.validation_images
    assert len(validation) % 2  # the processes cannot have equally many
    with torch.inference_mode():
        logits = trained.network.logits(torch.from_numpy(data.pixels[validation]))
    labels = torch.from_numpy(data.labels[validation])
    loss = float(torch.nn.functional.cross_entropy(logits, labels))
    assert trained.best.validation_loss == pytest.approx(loss, rel=1e-4)
    assert trained.best.validation_accuracy == pytest.approx(float((logits.argmax(1) == labels).float().mean()))


def test_a_process_that_is_killed_ends_the_training_in_a_line_and_the_next_goes_on(
    digits: Digits, together: tuple[Trained, list[EpochReport], Path], tmp_path: Path
) -> None:
    whole, data, ranks = together[0], lesson(digits), []
    others = set(psutil.Process().children(recursive=True))  # servers of other tests

    def kill_the_second(report: EpochReport) -> None:
        if report.epoch == 2:
            ranks.extend(set(psutil.Process().children(recursive=True)) - others)
            for process in ranks:
                if process.environ().get("RANK") == "1":
                    process.kill()

    with pytest.raises(TrainingFailed, match=r"^training process 2 of 2 was killed by SIGKILL.*run the retraining"):
        train(data, CLASSES, MODEL, POLICY, work_dir=tmp_path, trainer=TWO, on_epoch=kill_the_second)
    assert len(ranks) == 2
    assert not any(process.is_running() for process in ranks)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    heard: list[EpochReport] = []
    trained = train(data, CLASSES, MODEL, POLICY, work_dir=tmp_path, trainer=TWO, on_epoch=heard.append)
    assert [told(report) for report in heard] == [told(report) for report in whole.history]
    expected = whole.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in trained.network.state_dict().items())


@pytest.mark.parametrize(("count", "ranks"), [(1, 2), (2, 2), (16, 2), (1025, 4), (513, 2), (7, 3)])
def test_each_image_is_validated_once_in_equally_many_batches(count: int, ranks: int) -> None:
    shares = [each_once(count, rank, ranks, 256) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert all(0 < len(batch) <= 256 for share in shares for batch in share)
    seen = sorted(position for share in shares for batch in share for position in batch)
    assert seen == (list(range(count)) if count >= ranks else sorted(list(range(count)) * ranks))


@pytest.mark.parametrize(
    ("trainer", "change", "said"),
    [
        (TrainerPolicy(accelerator="cpu", devices=3), {}, r"train.batch_size 32 is divided among 3 processes"),
        (TrainerPolicy(accelerator="cpu", devices=2, nodes=16), {}, r"multiple of 32, of two images each"),
        (TrainerPolicy(accelerator="cpu", devices=2), {"batch_size": 6, "mixup": 0.2}, r"multiple of 4"),
        (TrainerPolicy(accelerator="cpu"), {"precision": "16"}, r"precision 16 needs a GPU"),
    ],
)
def test_what_cannot_be_dealt_out_is_refused_at_once(
    digits: Digits, tmp_path: Path, trainer: TrainerPolicy, change: dict[str, object], said: str
) -> None:
    policy = POLICY.model_copy(update=change)
    with pytest.raises(ConfigurationError, match=said):
        train(lesson(digits), CLASSES, MODEL, policy, work_dir=tmp_path, trainer=trainer)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="there is no GPU here"):
        machine_for(TrainerPolicy(accelerator="gpu"), POLICY)
    assert machine_for(TrainerPolicy(devices="auto"), POLICY).ranks == 1


def test_the_one_that_was_killed_is_named_and_not_those_that_miss_it(tmp_path: Path) -> None:
    job = Job(tmp_path, trainer=TWO, local_ranks=2, address=("127.0.0.1", 1))
    complaint = "failed (RuntimeError: Connection closed by peer)"
    for failures in ({0: complaint, 1: "was killed by SIGKILL"}, {1: "was killed by SIGKILL", 0: complaint}):
        assert str(_the_cause(dict(failures), job)).startswith("training process 2 of 2 was killed by SIGKILL")
    full = TrainingFailed("checkpoints cannot be written under x: make room there")
    assert _the_cause({1: "was killed by SIGKILL", 0: full}, job) is full


def test_a_folder_that_is_no_job_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no training"):
        Job.read(tmp_path)
