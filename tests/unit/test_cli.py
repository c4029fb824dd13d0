from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main, parse_overrides
from pipeline.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def tidemark(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it, in an environment where nothing is configured."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("TIDEMARK_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *args], cwd=ROOT, env=env | environment, capture_output=True, text=True
    )


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "coins.yaml").write_text("")
    (streams / "broken.yaml").write_text("scedule: daily")
    return {"TIDEMARK_HOME": str(tmp_path / "home"), "TIDEMARK_STREAMS": str(streams)}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("ingest", "nosuch"), "there are broken, coins"),
        (("ingest", "broken"), "did you mean `schedule`"),
        (("check", "coins"), "tidemark up"),
        (("retrain", "coins", "--set", "train.epoch=5"), "did you mean `epochs`"),
        (("retrain", "coins", "--set", "nonsense"), "--set takes KEY=VALUE"),
        (("check", "coins", "--force"), "--force needs --batch"),
        (("push", "coins", "/nowhere"), "/nowhere is not a folder"),
        (("models", "coins"), "tidemark up"),
        (("report", "coins"), "tidemark up"),
        (("export", "coins", "coins.csv"), "tidemark up"),
        (("predict", "coins", "coin.jpg"), "tidemark up"),
        (("predict", "coins", "s3://images/coin.jpg", "--out"), "take --json"),
    ],
)
def test_wrong_configuration_is_one_line_and_status_2(bare: dict[str, str], args: tuple[str, ...], says: str) -> None:
    done = tidemark(*args, **bare)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_json_is_the_only_thing_on_stdout_also_when_it_fails(bare: dict[str, str]) -> None:
    done = tidemark("ingest", "nosuch", "--json", **bare)
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_status"] == 2
    assert done.stderr.startswith("error: ")


def test_log_lines_can_be_json_with_stream_stage_and_run(bare: dict[str, str]) -> None:
    done = tidemark("ingest", "nosuch", "--json", TIDEMARK_LOG="json", TIDEMARK_RUN="coins_ingest/manual__1/1", **bare)
    line = json.loads(done.stderr)
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_status"] == 2
    assert (line["level"], line["stage"], line["stream"]) == ("error", "ingest", "nosuch")
    assert line["run"] == "coins_ingest/manual__1/1"
    assert line["message"].startswith("no stream 'nosuch'")
    assert line["time"].endswith("+00:00")
    wrong = tidemark("ingest", "coins", TIDEMARK_LOG="xml", **bare)
    assert wrong.stderr == "error: setting log is not valid: Input should be 'text' or 'json'\n"


def test_unknown_options_and_commands_are_status_2() -> None:
    for args in (("nosuch",), ("ingest",), ("ingest", "digits", "--nosuch"), ("ingest", "digits", "--limit", "0")):
        done = tidemark(*args)
        assert done.returncode == 2, args
        assert "Traceback" not in done.stderr


def test_help_names_every_command_of_the_contract() -> None:
    done = tidemark("--help")
    for command in (
        "up", "down", "status", "demo", "push", "ingest", "check", "retrain", "score", "models", "rollback", "report",
        "approve", "export", "predict", "doctor", "prune",
    ):  # fmt: skip
        assert f"\n  {command} " in done.stdout


def test_overrides_are_read_as_yaml() -> None:
    pairs = ["train.epochs=5", "model.weights=none", "drift.alpha=0.01", "classes=[a, b]", "description=a=b"]
    assert parse_overrides(pairs) == {
        "train.epochs": 5,
        "model.weights": "none",
        "drift.alpha": 0.01,
        "classes": ["a", "b"],
        "description": "a=b",
    }
    for wrong in ("novalue", "=5", "a=[1"):
        with pytest.raises(ConfigurationError):
            parse_overrides([wrong])


def test_every_command_lets_waiting_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "argv", ["tidemark", "--help"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit):
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
