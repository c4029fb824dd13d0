"""What a stream is: one YAML file becomes one validated, frozen model."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from croniter import croniter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.errors import ConfigurationError, StreamInvalid, StreamNotFound

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")  # part of DAG ids, S3 keys and MLflow names

# The names of drift.TESTS; a DAG's parse should not pay for importing that room (a test compares the two).
Test = Literal["mmd", "ensemble", "ks", "cvm", "lsdd", "classifier", "learned-kernel", "spot-the-diff"]
# The names of pipeline.images.changes.CHANGES, compared by a test likewise.
Change = Literal["noise", "blur", "brightness", "contrast", "colour-cast", "rotation", "scale", "jpeg", "inversion"]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


MOST_CONSECUTIVE = 30  # checks that an alarm may look back on
RECIPE = ("model", "train")  # the parts of a stream that a run may override


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IngestPolicy(_Part):
    """What is let in."""

    max_bytes: Count = Field(32 * 1024 * 1024, description="Larger objects are quarantined without a download.")
    max_pixels: Count = Field(64_000_000, description="Larger images are quarantined before they are decoded.")
    min_side: Count = Field(4, description="Images with a shorter side are quarantined.")
    max_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        30.0, description="An image that takes longer is quarantined."
    )
    max_bad_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="With more than this share of a batch quarantined, the source is broken and ingest fails."
    )
    near_bits: Annotated[int, Field(ge=0, le=4)] = Field(
        4, description="Images whose 64-bit perceptual hashes differ in at most so many bits are near duplicates."
    )
    listing: Literal["full", "dated"] = Field(
        "full", description="`full` compares the whole prefix, `dated` only folders named by recent dates."
    )
    margin_days: Annotated[int, Field(ge=0, le=3650)] = Field(
        2, description="`dated` reads so many days from before the last ingest again."
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Threads that fetch.")
    processes: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="That decode; 0 takes every processor there is."
    )


class HoldoutPolicy(_Part):
    """Which images no training ever sees."""

    share: Share = Field(0.2, description="Share of the images, chosen by a stable hash of their content.")


class ModelPolicy(_Part):
    """Which network, at which size, from which weights."""

    architecture: str = Field("resnet18", description="A timm model name: any ResNet or EfficientNet.")
    weights: str = Field("none", description="`none`, `imagenet` (timm downloads them) or a local checkpoint's path.")
    image_size: Annotated[int, Field(ge=16, le=1024)] = Field(224, description="Side of the network's input, pixels.")


class TrainPolicy(_Part):
    """How it is trained."""

    epochs: Count = 20
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    validation_share: Share = Field(0.1, description="Share of the training images that early stopping looks at.")
    patience: Count = Field(5, description="Epochs without improvement before training stops.")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(10, description="Augmentation: largest angle, degrees.")
    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(0.1, description="Augmentation: largest shift, share of side.")
    flip: bool = Field(False, description="Augmentation: mirror left and right.")
    seed: int = 0
    threads: Annotated[int, Field(ge=0)] = Field(0, description="Threads; 0 takes every processor there is.")


class DriftPolicy(_Part):
    """When a batch raises an alarm; docs/drift.md says what each key means."""

    test: Test = Field("ensemble", description="`ensemble` and `mmd` are ours, the others alibi-detect's.")
    changes: tuple[Change, ...] | None = Field(
        None, description="Changes of images that are rehearsed at a promotion; default all, `[]` none."
    )
    permutations: Annotated[int, Field(ge=99, le=100_000)] = 999
    false_alarms_per_year: Annotated[float, Field(gt=0)] = Field(
        1.0, description="How many alarms a year without drift may bring on average; sets the level of each check."
    )
    alpha: Annotated[float, Field(ge=1e-5, lt=1)] | None = Field(
        None, description="Level of one check, instead of the budget."
    )
    min_effect: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        0.55, description="Least AUC of a classifier that tells new from reference images; 0.5 asks for none."
    )
    min_accuracy_drop: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Least loss of accuracy, measured or expected; 0 asks for none."
    )
    consecutive: tuple[int, int] = Field(
        (1, 1), description="`2 of 3`: an alarm needs drift in 2 of the last 3 checks; `2`: in 2 in a row."
    )
    cooldown: Annotated[int, Field(ge=0, le=1000)] = Field(
        3, description="So many checks after a retraining raise no alarm."
    )
    on_alarm: Literal["retrain", "notify"] = Field(
        "retrain", description="`notify`: the alarm is shown, and nothing is retrained by itself."
    )
    min_images: Annotated[int, Field(ge=5)] = Field(20, description="A smaller batch waits for the next one.")
    max_images: Annotated[int, Field(ge=20)] = Field(5000, description="A larger batch is tested on a random part.")
    seed: int = Field(0, ge=0)

    @field_validator("consecutive", mode="before")
    @classmethod
    def _k_of_n(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return (value, value)
        if isinstance(value, str) and (parts := re.fullmatch(r"\s*(\d{1,4})\s+of\s+(\d{1,4})\s*", value)):
            return (int(parts[1]), int(parts[2]))
        return value

    @field_validator("consecutive")
    @classmethod
    def _possible(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= value[0] <= value[1] <= MOST_CONSECUTIVE:
            raise ValueError(f"a number such as 2, or `2 of 3`; at most {MOST_CONSECUTIVE} checks are looked at")
        return value

    @field_validator("changes")
    @classmethod
    def _each_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("name each change once")
        return value


class ReferencePolicy(_Part):
    """Which holdout images stand for normal."""

    min_images: Annotated[int, Field(ge=20)] = 50
    max_images: Annotated[int, Field(ge=20)] = 2000


class GatePolicy(_Part):
    """When a challenger takes over."""

    min_gain: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Least gain in accuracy on new holdout.")
    significance: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="Level of McNemar's exact test.")
    max_regression: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.03, description="Largest loss of accuracy on the older holdout."
    )
    min_holdout: Count = Field(20, description="Fewer holdout images cannot decide anything.")
    max_slice_regression: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Largest loss of accuracy on a class, folder or batch of the holdout."
    )
    min_support: Count = Field(30, description="A class, folder or batch of fewer holdout images is not judged alone.")


class ScorePolicy(_Part):
    """How predictions are made."""

    shard_images: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    batch_size: Count = 64
    top_k: Annotated[int, Field(ge=1, le=100)] = 3
    schedule: str | None = Field("30 6 * * *", description="Catch-up run, cron; `null` for none.")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="Threads; 0 takes every processor there is.")

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        return _valid_cron(value)


class Stream(_Part):
    """One source of images with its classifier, drift policy and schedule."""

    name: str
    description: str = ""
    owner: str = "tidemark"
    prefix: str = Field("", description="Keys of the image bucket that belong to the stream; default `<name>/`.")
    labels: Literal["folder", "csv", "jsonl", "none"] = Field(
        "folder", description="`folder`: the folder of a file names its class; `csv` and `jsonl`: label_files do."
    )
    label_files: tuple[str, ...] = Field(
        (), description="Keys of the image bucket; one that ends with `/` means every such file below it."
    )
    classes: tuple[str, ...] | None = Field(None, description="The classes; without it, every label seen is one.")
    schedule: str | None = Field("0 2 * * *", description="When ingest runs, cron; `null` for by hand only.")
    ingest: IngestPolicy = IngestPolicy()
    holdout: HoldoutPolicy = HoldoutPolicy()
    model: ModelPolicy = ModelPolicy()
    train: TrainPolicy = TrainPolicy()
    drift: DriftPolicy = DriftPolicy()
    reference: ReferencePolicy = ReferencePolicy()
    gate: GatePolicy = GatePolicy()
    score: ScorePolicy = ScorePolicy()

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        return _valid_cron(value)

    @field_validator("classes", mode="before")
    @classmethod
    def _class_names(cls, value: Any) -> Any:
        # YAML reads `classes: [0, 1]` as numbers; folder names are text.
        if isinstance(value, list):
            return [str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in value]
        return value

    @model_validator(mode="after")
    def _coherent(self) -> Stream:
        if self.classes is not None and (len(set(self.classes)) != len(self.classes) or len(self.classes) < 2):
            raise ValueError("classes: name at least two classes, each once")
        if any(not name.strip() == name != "" or "/" in name or not name.isprintable() for name in self.classes or ()):
            raise ValueError("classes: a name has no `/`, no control characters and no blanks around it")
        if self.prefix.startswith("/") or (self.prefix and not self.prefix.endswith("/")):
            raise ValueError("prefix: an S3 prefix does not start with `/` and ends with one, such as `scans/new/`")
        if any(not source.strip("/") or source.startswith("/") for source in self.label_files):
            raise ValueError("label_files: name keys of the image bucket, such as `labels/2026.csv` or `labels/`")
        if self.label_files and self.labels not in {"csv", "jsonl"}:
            raise ValueError("label_files: they are read with `labels: csv` or `labels: jsonl` only")
        return self

    @property
    def label_sources(self) -> tuple[str, ...]:
        """Keys of the labels files, or prefixes that end with `/`; by default `<prefix>labels.csv` or `.jsonl`."""
        if self.labels not in {"csv", "jsonl"}:
            return ()
        return self.label_files or (f"{self.prefix}labels.{self.labels}",)

    def is_label_file(self, key: str) -> bool:
        """Whether a key of the image bucket is one of the stream's labels files, and so no image."""
        return any(
            key == source or (source.endswith("/") and key.startswith(source) and key.endswith(f".{self.labels}"))
            for source in self.label_sources
        )

    @property
    def checks_per_year(self) -> float:
        """How often the schedule runs in a year; 365 where there is none."""
        if self.schedule is None:
            return 365.0
        times = croniter(self.schedule, 1_767_225_600.0)  # 2026-01-01T00:00Z: any fixed start gives equal answers
        steps = 400
        last = first = times.get_next(float)
        for _ in range(steps):
            last = times.get_next(float)
        return steps * 365.25 * 86_400 / (last - first)

    def with_overrides(self, overrides: dict[str, Any]) -> Stream:
        """The same stream with another recipe: ``{"train.epochs": 3}`` or nested mappings.

        Only the recipe can be replaced for one run; what is let in, who may take over and which stream it is stay.

        Raises:
            StreamInvalid: A key is unknown, not part of the recipe, or a value is not allowed.
        """
        content = self.model_dump()
        for dotted, value in overrides.items():
            if dotted.split(".")[0] not in RECIPE:
                allowed = ", ".join(f"{part}.{key}" for part in RECIPE for key in _keys(_model_of(Stream, part)))
                raise StreamInvalid(
                    f"an override of stream {self.name}: `{dotted}` is no part of the recipe; {allowed}"
                )
            _set(content, dotted.split("."), value, self.name)
        return _validate(content, self.name, f"an override of stream {self.name}")


def stream_names(folder: Path) -> list[str]:
    """Names of the stream files in a folder, sorted; files that are not valid streams included.

    Raises:
        ConfigurationError: The folder does not exist.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"no folder {folder}: run in the project's folder, or set TIDEMARK_STREAMS")
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_stream(folder: Path, name: str) -> Stream:
    """Read ``<folder>/<name>.yaml``.

    Raises:
        StreamNotFound: There is no such file.
        StreamInvalid: A key is unknown, a value is not allowed, or the file is not YAML.
    """
    names = stream_names(folder)
    if name not in names:
        raise StreamNotFound(f"no stream {name!r} in {folder}/: there {_list_of(names)}")
    path = folder / f"{name}.yaml"
    if not NAME.fullmatch(name):
        raise StreamInvalid(f"{path}: a stream's name has small letters, digits, `-` and `_`, at most 40: rename it")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise StreamInvalid(f"{path}: {where}not YAML ({getattr(error, 'problem', error)})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StreamInvalid(f"{path}: cannot be read ({error})") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise StreamInvalid(f"{path}: a stream file is a mapping of keys to values; allowed: {_allowed(Stream)}")
    if "name" in content:
        raise StreamInvalid(f"{path}: take out `name`: the file's name is the stream's name")
    return _validate({"prefix": f"{name}/", **content, "name": name}, name, str(path))


def _validate(content: dict[str, Any], name: str, where: str) -> Stream:
    try:
        return Stream.model_validate(content)
    except ValidationError as error:
        raise StreamInvalid(f"{where}: " + "; ".join(_explain(item) for item in error.errors()[:3])) from None


def _explain(item: Any) -> str:
    """One pydantic error as words: the key, what is wrong, what is allowed."""
    loc = [str(part) for part in item["loc"]]
    key = ".".join(loc)
    if item["type"] == "extra_forbidden":
        model: type[BaseModel] = Stream
        for part in loc[:-1]:
            model = _model_of(model, part)
        close = difflib.get_close_matches(loc[-1], _keys(model), n=1)
        hint = f" (did you mean `{close[0]}`?)" if close else ""
        return f"unknown key `{key}`{hint}; allowed: {_allowed(model)}"
    message = item["msg"].removeprefix("Value error, ")
    return f"`{key}`: {message}, not {item['input']!r}" if key else message


def _model_of(model: type[BaseModel], field: str) -> type[BaseModel]:
    annotation = model.model_fields[field].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else model


def _keys(model: type[BaseModel]) -> list[str]:
    return [key for key in model.model_fields if not (model is Stream and key == "name")]


def _allowed(model: type[BaseModel]) -> str:
    return ", ".join(_keys(model))


def _set(content: dict[str, Any], path: list[str], value: Any, name: str) -> None:
    head, *rest = path
    if not rest:
        if isinstance(value, dict) and isinstance(content.get(head), dict):
            for key, inner in value.items():
                _set(content[head], [str(key)], inner, name)
        else:
            content[head] = value
        return
    inner = content.get(head)
    if not isinstance(inner, dict):
        raise StreamInvalid(f"an override of stream {name}: unknown key `{head}`; allowed: {_allowed(Stream)}")
    _set(inner, rest, value, name)


def _list_of(names: list[str]) -> str:
    return f"are {', '.join(names)}" if len(names) > 1 else f"is {names[0]}" if names else "is none yet"


def _valid_cron(value: str | None) -> str | None:
    if value is not None and (len(value.split()) != 5 or not croniter.is_valid(value)):
        raise ValueError("a cron expression of five fields such as `0 2 * * *`, or null")
    return value
