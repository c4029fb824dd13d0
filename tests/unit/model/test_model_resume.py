from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, MODEL, TRAIN, Digits

from pipeline.model.dataset import LabelledPixels
from pipeline.model.resume import FILE
from pipeline.model.train import EpochReport, Trained, train

POLICY = TRAIN.model_copy(update={"epochs": 4, "patience": 2})


def lesson(digits: Digits) -> LabelledPixels:
    return LabelledPixels(digits.training.pixels[:160], digits.training.labels[:160])


def told(report: EpochReport) -> dict[str, object]:
    return {key: value for key, value in asdict(report).items() if key != "seconds"}


@pytest.fixture(scope="module")
def whole(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same training without an interruption."""
    return train(lesson(digits), CLASSES, MODEL, POLICY, work_dir=tmp_path_factory.mktemp("whole"))


# Killed as its second epoch is told of, or while the checkpoint after it is written.
CHILD = """
import io, json, os, signal, sys
from pathlib import Path
import numpy as np, torch
from pipeline.model import resume
from pipeline.model.dataset import LabelledPixels
from pipeline.model.train import train
from pipeline.recipe import ModelPolicy, TrainPolicy

folder, when, model, policy = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
data = np.load(folder / "data.npz")
finished = []

def told(report):
    finished.append(report.epoch)
    if when == "epoch" and report.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)

def save(checkpoint, file, *rest, write=torch.save):
    if when == "write" and finished[-1] == 3:
        whole = io.BytesIO()
        write(checkpoint, whole)
        file.write(whole.getvalue()[:5000])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    write(checkpoint, file, *rest)

resume.torch.save = save
train(
    LabelledPixels(data["pixels"], data["labels"]),
    tuple("0123456789"),
    ModelPolicy.model_validate_json(model),
    TrainPolicy.model_validate_json(policy),
    work_dir=folder / "work",
    on_epoch=told,
)
"""


@pytest.mark.parametrize("when", ["epoch", "write"])
def test_a_training_killed_at_any_moment_goes_on_and_ends_as_if_it_had_not_been(
    digits: Digits, whole: Trained, tmp_path: Path, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = lesson(digits)
    np.savez(tmp_path / "data.npz", pixels=data.pixels, labels=data.labels)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), when, MODEL.model_dump_json(), POLICY.model_dump_json()],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert (tmp_path / "work" / FILE).is_file()
    heard: list[EpochReport] = []
    with caplog.at_level("INFO", "pipeline"):
        trained = train(data, CLASSES, MODEL, POLICY, work_dir=tmp_path / "work", on_epoch=heard.append)
    assert "going on after its epoch 2" in caplog.text
    assert [told(report) for report in trained.history] == [told(report) for report in whole.history]
    assert tuple(heard) == trained.history  # whoever notes the metrics gets all of them
    assert trained.best_epoch == whole.best_epoch
    expected = whole.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in trained.network.state_dict().items())
    assert [path.name for path in (tmp_path / "work").iterdir()] == [FILE]


def test_a_finished_training_is_not_run_again(digits: Digits, tmp_path: Path) -> None:
    # Stopped early: at such a learning rate nothing gets better.
    policy = POLICY.model_copy(update={"epochs": 30, "learning_rate": 1e-12, "patience": 1})
    first = train(lesson(digits), CLASSES, MODEL, policy, work_dir=tmp_path)
    again = train(lesson(digits), CLASSES, MODEL, policy, work_dir=tmp_path)
    assert len(first.history) < 30
    assert again.history == first.history  # seconds and all
    expected = first.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in again.network.state_dict().items())


@pytest.mark.parametrize("damage", ["torn", "empty", "json", "other"])
def test_a_checkpoint_that_does_not_serve_is_left_aside_with_a_line(
    digits: Digits, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    short = POLICY.model_copy(update={"epochs": 1})
    data = LabelledPixels(digits.training.pixels[:60], digits.training.labels[:60])
    train(data, CLASSES, MODEL, short, work_dir=tmp_path)
    checkpoint = tmp_path / FILE
    if damage == "torn":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-3000])
    elif damage != "other":
        checkpoint.write_bytes(b"" if damage == "empty" else json.dumps({"epoch": 1}).encode())
    policy = short.model_copy(update={"seed": 1}) if damage == "other" else short
    trained = train(data, CLASSES, MODEL, policy, work_dir=tmp_path)
    assert len(trained.history) == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"the checkpoint {checkpoint} ")
    assert line.endswith("begins anew")
