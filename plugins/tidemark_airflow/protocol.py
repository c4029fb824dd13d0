"""How a stage is spoken to and understood: options to arguments, log lines to levels, stdout to a result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

MOST_RESULT = 64 * 1024  # characters; XCom carries ids and keys
LEVEL = re.compile(
    r"(?:\[?\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?\]?\s+)?"  # a time of day; Airflow writes its own
    r"(?:\[?(DEBUG|INFO|WARNING|ERROR|CRITICAL)\]?(?::\s*|\s+)|(debug|info|warning|error|critical):\s+)(.*)",
    re.DOTALL,
)


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as command-line arguments. ``--name=value`` in one piece, so that no value can pass for an option."""
    result = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            result.append(flag)
        elif isinstance(value, Mapping):
            result.extend(f"{flag}={key}={json.dumps(leaf, ensure_ascii=False)}" for key, leaf in _leaves(value))
        elif value is not None and value is not False and value != "":
            result.append(f"{flag}={value}")
    return result


def level_of(line: str) -> tuple[str, str]:
    """Logger method for a line of the child and the line without its level: info where it names none."""
    if match := LEVEL.fullmatch(line):
        return (match[1] or match[2]).lower(), match[3]
    return "info", line


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def ended(status: int, last: str) -> str:
    """What to say of a stage that ended without a word of its own."""
    if status > 128:  # the shells' convention, which the leash keeps
        hint = "; was memory short?" if status == 128 + 9 else ""
        return f"the stage was ended by signal {status - 128}{hint}"
    return f"the stage ended with status {status}" + (f": {last}" if last else "")


def result_of(output: bytes) -> dict[str, Any]:
    """The JSON object that a stage prints last on stdout.

    Raises:
        ValueError: There is none, or it is too large for XCom.
    """
    text = output.decode("utf-8", "replace").strip()
    if len(text) > MOST_RESULT:
        raise ValueError(f"it is longer than {MOST_RESULT} characters")
    result = json.loads(text.rpartition("\n")[2])
    if not isinstance(result, dict):
        raise ValueError("it is not an object")
    return result
