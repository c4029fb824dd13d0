"""How operators speak to a stage and understand it."""

from __future__ import annotations

import click
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tidemark_airflow.protocol import MOST_RESULT, arguments, ended, level_of, result_of


def test_empty_options_are_left_out() -> None:
    assert arguments({"limit": None, "force": False, "reason": "", "set": {}}) == []


def test_options_come_in_one_piece() -> None:
    options = {"limit": 0, "force": True, "reason": "two words", "from_run": "x"}
    assert arguments(options) == ["--limit=0", "--force", "--reason=two words", "--from-run=x"]


def test_mappings_become_dotted_pairs_that_yaml_reads_back() -> None:
    tree = {"train.epochs": 3, "model": {"weights": "none", "architecture": "resnet18"}, "schedule": None}
    assert arguments({"set": tree}) == [
        "--set=train.epochs=3",
        '--set=model.weights="none"',
        '--set=model.architecture="resnet18"',
        "--set=schedule=null",
    ]


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_no_value_can_become_an_option(text: str) -> None:
    (argument,) = arguments({"reason": text})
    command = click.Command("x", params=[click.Option(["--reason"]), click.Option(["--force"], is_flag=True)])
    context = command.make_context("x", [argument])
    assert context.params == {"reason": text, "force": False}


def test_typer_takes_a_value_that_looks_like_an_option() -> None:
    app = typer.Typer()

    @app.command()
    def stage(reason: str = "", force: bool = False) -> None:
        print(f"{reason}|{force}")

    assert CliRunner().invoke(app, arguments({"reason": "--force"})).output == "--force|False\n"


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("INFO listing images/digits/", "info", "listing images/digits/"),
        ("WARNING: 3 quarantined", "warning", "3 quarantined"),
        ("2026-11-21 03:00:00,123 ERROR no", "error", "no"),
        ("[2026-11-21T03:00:00Z] [DEBUG] x", "debug", "x"),
        ("error: the store is down", "error", "the store is down"),
        ("Error rates are low", "info", "Error rates are low"),
        ("INFORMATION", "info", "INFORMATION"),
        ("100 %s {braces}", "info", "100 %s {braces}"),
    ],
)
def test_lines_keep_their_level(line: str, level: str, text: str) -> None:
    assert level_of(line) == (level, text)


def test_a_result_is_the_last_line_of_stdout() -> None:
    assert result_of(b'{"a": 1}\n') == {"a": 1}
    assert result_of(b'noise of a library\n{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("output", [b"", b"nothing", b"[1]", b'{"a"', b"\xff", b'{"a": "' + b"x" * MOST_RESULT + b'"}'])
def test_what_is_no_result_is_refused(output: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        result_of(output)


def test_a_death_without_a_word_is_explained() -> None:
    assert ended(137, "epoch 3") == "the stage was ended by signal 9; was memory short?"
    assert ended(3, "epoch 3") == "the stage ended with status 3: epoch 3"
