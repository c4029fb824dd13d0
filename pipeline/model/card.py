"""A model card in markdown: what data, why it was trained, how good it is, what changed.

The sections follow Mitchell et al. 2019, "Model Cards for Model Reporting", as far as a machine can fill them in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.model.evaluate import Evaluation
from pipeline.model.gate import Evaluations, GateDecision
from pipeline.model.slices import Slice
from pipeline.model.snapshot import Snapshot
from pipeline.naming import printable

MOST_SLICES = 15
MOST_CLASSES = 50
FIGURES = (
    ("images", "{:.0f}"),
    ("accuracy", "{:.4f}"),
    ("balanced_accuracy", "{:.4f}"),
    ("macro_precision", "{:.4f}"),
    ("macro_recall", "{:.4f}"),
    ("macro_f1", "{:.4f}"),
    ("roc_auc", "{:.4f}"),
    ("calibration_error", "{:.4f}"),
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card tells.

    Attributes:
        stream: Stream that the model serves.
        version: Its number.
        champion: Number of the version it was compared with; None for a first model.
        reason: Why it was trained.
        findings: What the check that asked for it found, in sentences.
        snapshot: What it was trained and judged on.
        snapshot_key: Where that list lies.
        before: The champion's snapshot; None where there is none or it cannot be read.
        recipe: Keys and values of the recipe.
        recipe_before: The champion's; empty where it is not known.
        code: Version of Tidemark that trained it.
        evaluations: Of challenger and champion.
        slices: Parts of the holdout under both, the worst first.
        decision: What the gate said.
        description: The stream's own words for what it is.
    """

    stream: str
    version: int
    champion: int | None
    reason: str
    findings: Sequence[str]
    snapshot: Snapshot
    snapshot_key: str
    before: Snapshot | None
    recipe: Mapping[str, str]
    recipe_before: Mapping[str, str]
    code: str
    evaluations: Mapping[str, Evaluations]
    slices: Sequence[Slice]
    decision: GateDecision
    description: str = ""

    def to_markdown(self) -> str:
        """The card as text."""
        sections = (
            f"# {plain(self.stream)}, version {self.version}",
            plain(self.description),
            self._decision(),
            self._why(),
            self._data(),
            self._quality(),
            self._slices(),
            self._cost(),
            self._changes(),
            self._recipe(),
        )
        return "\n\n".join(section for section in sections if section) + "\n"

    def _decision(self) -> str:
        against = f"version {self.champion}" if self.champion is not None else "no champion"
        verdict = "is fit to take over" if self.decision.promote else "stays out"
        lines = [f"The gate compared it with {against}: it **{verdict}**.", ""]
        return "\n".join(lines + [f"- {plain(reason)}" for reason in self.decision.reasons])

    def _why(self) -> str:
        lines = ["## Why it was trained", "", plain(self.reason)]
        return "\n".join(lines + [""] * bool(self.findings) + [f"- {plain(said)}" for said in self.findings])

    def _data(self) -> str:
        training, holdout = self.snapshot.counts("training"), self.snapshot.counts("holdout")
        rows = [
            f"| {plain(name)} | {training[name]} | {holdout[name]} |" for name in self.snapshot.classes[:MOST_CLASSES]
        ]
        more = len(self.snapshot.classes) - MOST_CLASSES
        batches = self.snapshot.batch_ids
        said = (
            f"{sum(training.values())} images to train on and {sum(holdout.values())} in the holdout, of batches "
            f"{batches[0]} to {batches[-1]}. The exact list is `{self.snapshot_key}`."
        )
        return "\n".join(
            [
                "## Data",
                "",
                said,
                "",
                "| class | training | holdout |",
                "| --- | ---: | ---: |",
                *rows,
                *([f"| … and {more} more | | |"] if more > 0 else []),
            ]
        )

    def _quality(self) -> str:
        columns: list[tuple[str, Evaluation]] = []
        for part, title in (("new", "new holdout"), ("old", "older holdout")):
            for who in ("challenger", "champion"):
                found = getattr(self.evaluations[who], part) if who in self.evaluations else None
                if found is not None:
                    columns.append((f"{title}, {'this version' if who == 'challenger' else 'champion'}", found))
        if not columns:
            return "## How good it is\n\nThere are no holdout images."
        lines = [
            "## How good it is",
            "",
            "On holdout images that no training has seen, by the ONNX file that goes live.",
            "New are those that came after the champion was trained.",
            "",
            "| | " + " | ".join(title for title, _ in columns) + " |",
            "| --- |" + " ---: |" * len(columns),
        ]
        for name, form in FIGURES:
            values = [evaluation.figures().get(name) for _, evaluation in columns]
            shown = ["–" if value is None else form.format(value) for value in values]
            lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(shown) + " |")
        return "\n".join(lines)

    def _slices(self) -> str:
        if not self.slices:
            return ""
        rows = [
            f"| {plain(item.name)} | {item.images} | {item.ours / item.images:.4f} | {item.theirs / item.images:.4f} |"
            for item in self.slices[:MOST_SLICES]
        ]
        more = len(self.slices) - MOST_SLICES
        head = ["| part of the holdout | images | this version | champion |", "| --- | ---: | ---: | ---: |"]
        rest = [f"| … and {more} more | | | |"] if more > 0 else []
        return "\n".join(["Accuracy on its parts, those that lost most first:", "", *head, *rows, *rest])

    def _cost(self) -> str:
        found = {who: item.footprint for who, item in self.evaluations.items() if item.footprint is not None}
        if not found:
            return ""
        rows = [
            f"| {'this version' if who == 'challenger' else who} | {item.latency_ms:.3f} | {item.batch_ms:.3f} | "
            f"{item.megabytes:.2f} |"
            for who, item in found.items()
        ]
        first = next(iter(found.values()))
        head = f"| | ms for one image | ms an image in a batch of {first.batch_size} | MB |"
        return "\n".join(["## What it costs", "", head, "| --- | ---: | ---: | ---: |", *rows, "", f"{first.how}."])

    def _changes(self) -> str:
        lines = ["## What changed", ""]
        if self.champion is None:
            return "\n".join([*lines, "It is the first model of its stream."])
        if self.before is None:
            lines.append(f"- The snapshot of version {self.champion} cannot be read.")
        else:
            lines += [f"- {said}" for said in _data_changes(self.before, self.snapshot)]
        keys = sorted(set(self.recipe) | set(self.recipe_before)) if self.recipe_before else []
        changed = [key for key in keys if self.recipe.get(key) != self.recipe_before.get(key)]
        lines += [
            f"- `{key}`: {plain(self.recipe.get(key, '–'))}, before {plain(self.recipe_before.get(key, '–'))}"
            for key in changed
        ]
        if keys and not changed:
            lines.append("- The recipe is the same.")
        return "\n".join(lines)

    def _recipe(self) -> str:
        rows = [f"| {plain(key)} | {plain(value)} |" for key, value in sorted(self.recipe.items())]
        return "\n".join(["## Recipe", "", f"Tidemark {self.code}.", "", "| key | value |", "| --- | --- |", *rows])


def _data_changes(before: Snapshot, now: Snapshot) -> list[str]:
    """What is in one snapshot and not in the other, in sentences."""
    old = {image.sha256: image for image in before.images}
    new = {image.sha256: image for image in now.images}
    added, gone = new.keys() - old.keys(), old.keys() - new.keys()
    both = new.keys() & old.keys()
    relabelled = sum(new[key].label != old[key].label for key in both)
    moved = sum(new[key].split != old[key].split for key in both)
    classes = sorted(set(now.classes) - set(before.classes))
    lost = sorted(set(before.classes) - set(now.classes))
    counts = [
        (len(added), "images are new"),
        (len(gone), "images are left out that the champion's snapshot had"),
        (relabelled, "images have another label"),
        (moved, "images are on the other side of the split"),
    ]
    sentences = [f"{count} {what}." for count, what in counts if count]
    sentences += [f"New class: {plain(name)}." for name in classes[:MOST_CLASSES]]
    sentences += [f"Class that is gone: {plain(name)}." for name in lost[:MOST_CLASSES]]
    return sentences or ["The images and labels are the same."]


def plain(text: str) -> str:
    """Text from outside that markdown and HTML take for nothing but text, in one line."""
    one_line = " ".join(printable(part) for part in text.split())
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#!~])", r"\\\1", escaped)
