from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

import drift
from pipeline.errors import ConfigurationError, StreamInvalid, StreamNotFound
from pipeline.images.changes import ALL_CHANGES
from pipeline.policies import Change, Test
from pipeline.stream import Stream, load_stream, stream_names


def write(folder: Path, content: str, name: str = "coins") -> Path:
    (folder / f"{name}.yaml").write_text(content, encoding="utf-8")
    return folder


def test_an_empty_file_is_a_stream_with_its_name_as_prefix(tmp_path: Path) -> None:
    stream = load_stream(write(tmp_path, ""), "coins")
    assert (stream.name, stream.prefix, stream.labels) == ("coins", "coins/", "folder")


def test_numbers_as_classes_become_the_folders_names(tmp_path: Path) -> None:
    assert load_stream(write(tmp_path, "classes: [0, 1, ten]"), "coins").classes == ("0", "1", "ten")


def test_classes_may_have_names_of_every_language(tmp_path: Path) -> None:
    """Joiners belong to the spelling of Persian and Hindi and to emoji; Japanese has a space of its own."""
    names = ("می\u200cخواهم", "क्\u200dष", "山田\u3000太郎", "👩\u200d🚀", "9.41.00\u202fAM", "not any")
    content = "classes:\n" + "".join(f"- {name}\n" for name in names)
    assert load_stream(write(tmp_path, content), "coins").classes == names


@pytest.mark.parametrize("other", ["c\u200dat", "\u200ccat", "cat\u200d"])
def test_classes_that_read_the_same_are_refused(tmp_path: Path, other: str) -> None:
    with pytest.raises(StreamInvalid, match=r"read the same|not empty|no control"):
        load_stream(write(tmp_path, f"classes: [cat, '{other}']"), "coins")
    with pytest.raises(StreamInvalid, match=r"'a b' and 'a.xa0b' read the same"):
        load_stream(write(tmp_path, "classes: ['a b', 'a\u00a0b']"), "coins")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("scedule: daily", ["coins.yaml", "unknown key `scedule`", "did you mean `schedule`", "allowed: description"]),
        ("train: {epoch: 3}", ["`train.epoch`", "did you mean `epochs`", "allowed: epochs, batch_size"]),
        ("train: {epochs: many}", ["coins.yaml", "`train.epochs`", "integer", "'many'"]),
        ("schedule: every night", ["`schedule`", "cron expression of five fields", "'every night'"]),
        ("schedule: '* * * * * *'", ["`schedule`", "five fields"]),
        ("schedule: '0 0 30 2 *'", ["`schedule`", "a day that some year has", "'0 0 30 2 *'"]),
        ("score: {schedule: '0 0 31 4,6,9,11 *'}", ["`score.schedule`", "a day that some year has"]),
        ("drift: {false_alarms_per_year: .inf}", ["`drift.false_alarms_per_year`", "finite number", "inf"]),
        ("drift: {false_alarms_per_year: .nan}", ["`drift.false_alarms_per_year`", "finite number", "nan"]),
        ("gate: {max_latency_factor: .inf}", ["`gate.max_latency_factor`", "finite number"]),
        ("train: {learning_rate: .inf}", ["`train.learning_rate`", "finite number"]),
        ("drift: {consecutive: 0}", ["`drift.consecutive`", "a number such as 2, or `2 of 3`"]),
        ("drift: {consecutive: 3 of 2}", ["`drift.consecutive`", "`2 of 3`"]),
        ("drift: {consecutive: often}", ["`drift.consecutive`"]),
        ("drift: {consecutive: 31}", ["at most 30 checks"]),
        ("drift: {changes: [fog]}", ["`drift.changes.0`", "'noise'", "'fog'"]),
        ("drift: {changes: [blur, blur]}", ["name each change once"]),
        ("drift: {on_alarm: shout}", ["`drift.on_alarm`", "'retrain' or 'notify'"]),
        ("drift: {min_effect: 0.3}", ["`drift.min_effect`", "0.5"]),
        ("drift: {alpha: 0.000001}", ["`drift.alpha`"]),
        ("drift: {cooldown: -1}", ["`drift.cooldown`"]),
        ("holdout: {share: 1.5}", ["`holdout.share`", "less than 1", "1.5"]),
        ("export: {quantize: int4}", ["`export.quantize`", "'none' or 'int8'"]),
        ("train: {freeze: 2}", ["name model.weights"]),
        ("labels: guess", ["`labels`", "'jsonl' or 'none'"]),
        ("classes: [one]", ["at least two classes"]),
        ("classes: [a, a]", ["each once"]),
        ("classes: [a, b/c]", ["no `/`", "not 'b/c'"]),
        ("classes: [a, 'b ']", ["no blanks around it", "not 'b '"]),
        ("classes: [a, '\u3000b']", ["no blanks around it"]),
        ('classes: [a, "b\\u202ec"]', ["no control characters", r"not 'b\u202ec'"]),
        ('classes: [a, "\\u200d"]', ["is not empty"]),
        ("prefix: /coins", ["does not start with `/`"]),
        ("prefix: coins", ["ends with one"]),
        ("name: other", ["take out `name`"]),
        ("- a\n- b", ["a mapping"]),
        ("a: [1\nb: 2", ["line", "not YAML"]),
        ("model: 5", ["`model`", "5"]),
    ],
)
def test_a_wrong_file_is_named_with_key_and_what_is_allowed(tmp_path: Path, content: str, parts: list[str]) -> None:
    with pytest.raises(StreamInvalid) as caught:
        load_stream(write(tmp_path, content), "coins")
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_bytes_that_are_no_text_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "coins.yaml").write_bytes(b"\xff\xfe\x00description")
    with pytest.raises(StreamInvalid, match=r"coins\.yaml"):
        load_stream(tmp_path, "coins")


def test_a_name_that_is_no_dag_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StreamInvalid, match="small letters"):
        load_stream(write(tmp_path, "", name="My Coins"), "My Coins")


def test_an_unknown_stream_names_those_that_exist(tmp_path: Path) -> None:
    write(tmp_path, "", "coins")
    write(tmp_path, "", "stamps")
    with pytest.raises(StreamNotFound, match="there are coins, stamps"):
        load_stream(tmp_path, "flowers")
    with pytest.raises(StreamNotFound):
        load_stream(tmp_path, "../coins")


def test_a_missing_folder_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="TIDEMARK_STREAMS"):
        stream_names(tmp_path / "nowhere")


def test_overrides_are_validated_like_the_file() -> None:
    stream = Stream(name="coins", prefix="coins/")
    changed = stream.with_overrides({"train.epochs": 3, "train": {"patience": 2}, "model.image_size": "64"})
    assert (changed.train.epochs, changed.train.patience, changed.model.image_size) == (3, 2, 64)
    assert changed.train.batch_size == stream.train.batch_size
    assert stream.train.epochs != 3
    for wrong in (
        {"train.epoch": 3},
        {"nonsense.epochs": 3},
        {"train.epochs": 0},
        {"nonsense": 1},
        {"name": "../x"},
        {"gate.min_gain": 0},
    ):
        with pytest.raises(StreamInvalid, match="override of stream coins"):
            stream.with_overrides(wrong)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, 365),
        ("0 2 * * *", 365.25),
        ("0 * * * *", 8766),
        ("* * * * *", 525_960),
        ("0 2 * * 1", 52.18),
        ("* 8-15 * * 1", 52.18 * 8 * 60),
        ("*/5 * * * 1", 52.18 * 24 * 12),
        ("0 9-17 * * mon-fri", 52.18 * 5 * 9),
        ("30 4 1,15 * *", 24),
        ("0 3 1-7 1-6 *", 42),
        ("0 0 13 * 5", 12 + 52.18 * (1 - 12 / 365.25)),  # a date or a weekday, as cron has it
        ("0 0 l * *", 12),
        ("0 0 1 1 *", 1),
        ("0 0 29 2 *", 0.25),
    ],
)
def test_checks_per_year_follow_the_schedule(schedule: str | None, expected: float) -> None:
    assert Stream(name="coins", schedule=schedule).checks_per_year == pytest.approx(expected, rel=0.005)


def test_the_tests_that_a_stream_may_choose_are_those_that_exist() -> None:
    assert set(get_args(Test)) == set(drift.TESTS)
    assert Stream(name="coins").drift.test == "ensemble"


def test_the_changes_that_a_stream_may_rehearse_are_those_that_exist(tmp_path: Path) -> None:
    assert get_args(Change) == tuple(ALL_CHANGES)
    more = load_stream(write(tmp_path, "drift: {changes: [blur, motion]}"), "coins").drift.changes
    assert more == ("blur", "motion")
    assert load_stream(write(tmp_path, ""), "coins").drift.changes is None
    assert load_stream(write(tmp_path, "drift: {changes: []}"), "coins").drift.changes == ()


@pytest.mark.parametrize(
    ("written", "meant"), [("2", (2, 2)), ("2 of 3", (2, 3)), ("'1 of 1'", (1, 1)), ("[2, 5]", (2, 5))]
)
def test_k_of_n_checks_may_be_written_as_people_say_it(tmp_path: Path, written: str, meant: tuple[int, int]) -> None:
    stream = load_stream(write(tmp_path, f"drift: {{consecutive: {written}}}"), "coins")
    assert stream.drift.consecutive == meant
    assert Stream.model_validate(stream.model_dump()) == stream


def test_every_stream_file_of_the_project_is_valid() -> None:
    folder = Path(__file__).parents[2] / "streams"
    assert "digits" in stream_names(folder)
    for name in stream_names(folder):
        load_stream(folder, name)
