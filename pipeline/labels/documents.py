"""Labels in JSON: lines, arrays, and what Label Studio exports (JSON and JSON-MIN)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from pipeline.labels.rows import AUTHORS, KEYS, LABELS, LINKS, NAMES, Outcome, Reading
from pipeline.labels.text import LINE_LIMIT, Line
from pipeline.records import LabelProblem, Unlabelled

ITEM_LIMIT = 16 << 20  # characters of one item of an array
_BLOCK = 1 << 16
_CONTROL_NAME = "label"  # the question in our own labelling configuration
_BLANK = " \t\r\n"


class _NotJson(Exception):
    """Its text says what is wrong."""


def _refuse_constant(name: str) -> Any:
    raise _NotJson(f"is not JSON ({name} is no value)")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NotJson(f"has {twice[:40]!r} twice")
    return found


# Numbers stay as they are written: the class `7` is text, as in the stream's file.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant, object_pairs_hook=_object)


def read_json_lines(lines: Iterator[Line], reading: Reading) -> Iterator[Outcome]:
    """What each line says; empty lines are no rows."""
    for line in lines:
        text = line.text.strip("\ufeff" + _BLANK)
        if not text:
            continue
        if line.cut:
            detail = f"is longer than {LINE_LIMIT} characters"
            yield LabelProblem(line=line.number, code="malformed", detail=detail)
            continue
        try:
            value, end = _decoded(text, 0)
            if end < len(text):
                raise _NotJson("has more than one JSON value")
        except _NotJson as error:
            yield LabelProblem(line=line.number, code="malformed", detail=str(error))
            continue
        yield from outcomes_of(line.number, value, reading)


def read_json_array(text: TextIO, reading: Reading) -> Iterator[Outcome]:
    """What each item of an array, or each of several values in a row, says; never more than one item in memory.

    After an item that is not JSON nothing can be told apart any more: that is one problem, and the end.
    """
    for line, item in _items(text):
        if isinstance(item, _NotJson):
            yield LabelProblem(line=line, code="malformed", detail=f"{item}, and what follows cannot be read")
        else:
            yield from outcomes_of(line, item, reading)


def _items(text: TextIO) -> Iterator[tuple[int, Any]]:
    buffer, at, line, block, ended = "", 0, 1, _BLOCK, False
    inside = False
    while True:
        while at < len(buffer) and buffer[at] in _BLANK + ",]\ufeff" + ("" if inside else "["):
            inside = inside or buffer[at] == "["
            line += buffer[at] == "\n"
            at += 1
        if at < len(buffer):
            try:
                value, end = _decoded(buffer, at)
                if end < len(buffer) or ended:  # a value at the end of what was read may go on
                    yield line, value
                    line += buffer.count("\n", at, end)
                    at, block = end, _BLOCK
                    continue
            except _NotJson as error:
                if ended or len(buffer) - at > ITEM_LIMIT:
                    yield line, error
                    return
        elif ended:
            return
        more = text.read(block)
        block = min(2 * block, ITEM_LIMIT)  # a long item is tried again a few times only
        ended = not more
        buffer, at = buffer[at:] + more, 0


def _decoded(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError:
        raise _NotJson("is nested too deeply") from None
    except ValueError as error:
        raise _NotJson(f"is not JSON ({getattr(error, 'msg', error)})") from None


def outcomes_of(line: int, value: Any, reading: Reading) -> Iterator[Outcome]:
    """What one JSON value says: a row of its own, or the annotations of one of Label Studio's tasks."""
    if not isinstance(value, dict):
        yield LabelProblem(line=line, code="malformed", detail='is no JSON object such as {"key": …, "label": …}')
        return
    fields = {str(name).strip().casefold(): content for name, content in value.items()}
    annotations = fields.get("annotations", fields.get("completions"))
    if isinstance(annotations, list) or isinstance(fields.get("data"), dict):
        yield from _task(line, fields, annotations, reading)
        return
    said = next((fields[name] for name in LABELS if name in fields), None)
    if said is None and "annotation_id" in fields:  # Label Studio's JSON-MIN
        if fields["annotation_id"] is None:
            yield Unlabelled(line=line)
        else:
            detail = f"{_first(fields, KEYS)!r} is answered, but no answer is named `label`: export JSON instead"
            yield LabelProblem(line=line, code="malformed", detail=detail)
        return
    yield reading.row(line, **_target(fields), label=said, author=_first(fields, AUTHORS))


def _task(line: int, task: dict[str, Any], annotations: Any, reading: Reading) -> Iterator[Outcome]:
    data = task.get("data")
    fields = {str(name).casefold(): content for name, content in data.items()} if isinstance(data, dict) else {}
    given = [item for item in annotations or () if isinstance(item, dict)]
    valid = [item for item in given if not item.get("was_cancelled") and not item.get("skipped")]
    if not valid:  # nobody has answered; what a model predicted is no answer
        yield Unlabelled(line=line)
    for annotation in valid:
        try:
            label = _answer(annotation)
        except _NotJson as error:
            key = next(iter(_target(fields).values()), None)
            yield LabelProblem(line=line, code="malformed", detail=f"{error} (task {task.get('id')!r}, {key!r})")
            continue
        if label is None:
            yield Unlabelled(line=line)
            continue
        yield reading.row(line, **_target(fields), label=label, author=annotation.get("completed_by"))


def _answer(annotation: dict[str, Any]) -> Any:
    """The choices of an annotation, or None where it makes none."""
    results = annotation.get("result")
    chosen: dict[str, list[Any]] = {}
    for item in results if isinstance(results, list) else ():
        if isinstance(item, dict) and item.get("type") == "choices" and isinstance(item.get("value"), dict):
            chosen.setdefault(str(item.get("from_name")), []).append(item["value"].get("choices"))
    if _CONTROL_NAME in chosen:
        return chosen[_CONTROL_NAME]
    if len(chosen) > 1:
        raise _NotJson(f"answers several questions, none of which is named `{_CONTROL_NAME}`")
    return next(iter(chosen.values()), None)


def _target(fields: dict[str, Any]) -> dict[str, str]:
    found = {"key": _first(fields, KEYS), "name": _first(fields, NAMES), "link": _first(fields, LINKS)}
    return {what: value for what, value in found.items() if isinstance(value, str) and value}


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((fields[name] for name in names if name in fields), None)
