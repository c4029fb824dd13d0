"""What a stream is: one YAML file becomes one validated, frozen model."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from pipeline.cron import runs_per_year, valid_cron
from pipeline.errors import ConfigurationError, StreamInvalid, StreamNotFound
from pipeline.naming import JOINERS, all_shown, as_read, quoted
from pipeline.policies import (
    DataPolicy,
    DriftPolicy,
    GatePolicy,
    HoldoutPolicy,
    IngestPolicy,
    NotifyPolicy,
    Part,
    ReferencePolicy,
    RetentionPolicy,
    ScorePolicy,
)
from pipeline.recipe import ExportPolicy, ModelPolicy, TrainerPolicy, TrainPolicy

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")  # part of DAG ids, S3 keys and MLflow names

RECIPE = ("model", "train", "export")  # the parts of a stream that say how a model is made
FOR_ONE_RUN = (*RECIPE, "trainer")  # that a run may override


class Stream(Part):
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
    data: DataPolicy = DataPolicy()
    model: ModelPolicy = ModelPolicy()
    train: TrainPolicy = TrainPolicy()
    trainer: TrainerPolicy = TrainerPolicy()
    export: ExportPolicy = ExportPolicy()
    drift: DriftPolicy = DriftPolicy()
    reference: ReferencePolicy = ReferencePolicy()
    gate: GatePolicy = GatePolicy()
    score: ScorePolicy = ScorePolicy()
    notify: NotifyPolicy = NotifyPolicy()
    retention: RetentionPolicy = RetentionPolicy()

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        return valid_cron(value)

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
        seen: dict[str, str] = {}
        for name in self.classes or ():
            if (other := seen.setdefault(as_read(name), name)) != name:
                raise ValueError(f"classes: {other!a} and {name!a} read the same")
        for name in self.classes or ():
            if name.strip() != name or "/" in name or not all_shown(name) or name.strip(JOINERS) != name or not name:
                allowed = "a name is not empty and has no `/`, no control characters and no blanks around it"
                raise ValueError(f"classes: {allowed}, not {quoted(name)}")
        if self.prefix.startswith("/") or (self.prefix and not self.prefix.endswith("/")):
            raise ValueError("prefix: an S3 prefix does not start with `/` and ends with one, such as `scans/new/`")
        if any(not source.strip("/") or source.startswith("/") for source in self.label_files):
            raise ValueError("label_files: name keys of the image bucket, such as `labels/2026.csv` or `labels/`")
        if self.label_files and self.labels not in {"csv", "jsonl"}:
            raise ValueError("label_files: they are read with `labels: csv` or `labels: jsonl` only")
        if (self.train.freeze or self.train.blocks is not None) and self.model.weights == "none":
            raise ValueError("train.freeze and train.blocks keep what was learnt before: name model.weights")
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
        return 365.0 if self.schedule is None else runs_per_year(self.schedule)

    def with_overrides(self, overrides: dict[str, Any]) -> Stream:
        """The same stream with another recipe: ``{"train.epochs": 3}`` or nested mappings.

        Only the recipe and what it runs on can be replaced for one run; what is let in, who may take over and which
        stream it is stay.

        Raises:
            StreamInvalid: A key is unknown, not part of the recipe, or a value is not allowed.
        """
        content = self.model_dump()
        for dotted, value in overrides.items():
            if dotted.split(".")[0] not in FOR_ONE_RUN:
                allowed = ", ".join(f"{part}.{key}" for part in FOR_ONE_RUN for key in _keys(_model_of(Stream, part)))
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
