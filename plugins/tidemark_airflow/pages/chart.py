"""A stream's checks as a drawing: numbers in, places in a plane out. The template turns them into SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

WIDTH, LEFT, RIGHT = 1000, 52, 14  # of the plane, in its own units
HEADS = 44  # room above the panels, for the words of a check
MOST_TIMES = 6.0  # a statistic of more thresholds is drawn at the upper edge
LEAST_P = 1e-4  # a smaller p-value is drawn at the lower edge


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One strip: its title, edges, and values written beside it as (y, text)."""

    title: str
    top: float
    bottom: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One check: where it stands, its marks as (x, y, kind) and what it says."""

    id: str
    decision: str
    left: float
    width: float
    x: float
    marks: tuple[tuple[float, float, str], ...]
    head: str
    words: str
    anchor: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Everything that is drawn. Lines are points of a polyline."""

    width: float
    height: float
    left: float
    right: float
    panels: tuple[Panel, ...]
    columns: tuple[Column, ...]
    lines: tuple[tuple[str, str], ...]  # (kind, points)
    changes: tuple[tuple[float, str], ...]  # (x, label)
    dates: tuple[tuple[float, str], ...]
    bottom: float


def draw(checks: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]) -> Chart | None:
    """Draw checks, oldest first, with the changes of champion among them; None where there is nothing to draw."""
    if not checks:
        return None
    step = (WIDTH - LEFT - RIGHT) / len(checks)
    xs = [LEFT + (place + 0.5) * step for place in range(len(checks))]
    statistic, times = _times_panel(checks)
    chance, chances = _chance_panel(checks)
    accuracy, accuracies, measured = _accuracy_panel(checks)
    panels = [statistic, chance, *([accuracy] if accuracy else [])]
    lines: list[tuple[str, str]] = [("level", _flat(_times(1.0, statistic, _scale(checks))))]
    lines += [("statistic", part) for part in _parts(xs, times)]
    lines += [("chance", part) for part in _parts(xs, chances)]
    lines += [("level", part) for part in _parts(xs, [_level(check, chance) for check in checks])]
    lines += [("accuracy", part) for part in _parts(xs, accuracies)]
    columns = []
    for place, (check, x) in enumerate(zip(checks, xs, strict=True)):
        drawn = [
            (times[place], check["decision"]),
            (chances[place], "dot"),
            (accuracies[place], "dot"),
            (measured[place], "ring"),
        ]
        marks = [(x, y, kind) for y, kind in drawn if y is not None]
        columns.append(
            Column(
                id=str(check["id"]),
                decision=str(check["decision"]),
                left=x - step / 2,
                width=step,
                x=x,
                marks=tuple(marks) or ((x, statistic.bottom, "pending"),),
                head=f"{check['created_at'].astimezone(UTC):%Y-%m-%d %H:%M} · {check['decision']}",
                words=" · ".join(_words(check)),
                anchor="start" if x < WIDTH * 0.3 else "end" if x > WIDTH * 0.7 else "middle",
            )
        )
    bottom = panels[-1].bottom
    return Chart(
        width=WIDTH,
        height=bottom + 26,
        left=LEFT,
        right=WIDTH - RIGHT,
        panels=tuple(panels),
        columns=tuple(columns),
        lines=tuple(lines),
        changes=tuple(_changes(changes, [check["created_at"] for check in checks], xs, step)),
        dates=tuple(_dates(checks, xs)),
        bottom=bottom,
    )


def sparks(checks: Sequence[dict[str, Any]], width: float = 200, height: float = 36) -> list[dict[str, Any]]:
    """Bars of the last checks, oldest first: x, y, width, height and the check's decision; one threshold is half."""
    step = width / max(len(checks), 20)
    start = width - step * len(checks)
    bars = []
    for place, check in enumerate(checks):
        ratio = _ratio(check)
        tall = 3.0 if ratio is None else max(3.0, min(ratio, 2.0) / 2 * height)
        bars.append(
            {"x": start + place * step, "y": height - tall, "width": step * 0.72, "height": tall, **_named(check)}
        )
    return bars


def chance(p_value: float) -> str:
    """A p-value in decimals, which 2e-05 is not for most people: = 0.00002, < 0.000001."""
    return "< 0.000001" if p_value < 1e-6 else f"= {Decimal(f'{p_value:.3g}'):f}"


def _named(check: dict[str, Any]) -> dict[str, Any]:
    return {"decision": check["decision"]}


def _ratio(check: dict[str, Any]) -> float | None:
    statistic, threshold = check["statistic"], check["threshold"]
    return statistic / threshold if statistic is not None and threshold else None


def _scale(checks: Sequence[dict[str, Any]]) -> tuple[float, float]:
    ratios = [ratio for check in checks if (ratio := _ratio(check)) is not None]
    return min(0.0, *ratios, 0.0), min(MOST_TIMES, max(1.5, *(1.08 * ratio for ratio in ratios), 1.5))


def _times(value: float, panel: Panel, scale: tuple[float, float]) -> float:
    low, high = scale
    inside = min(max(value, low), high)
    return panel.bottom - (inside - low) / (high - low) * (panel.bottom - panel.top)


def _times_panel(checks: Sequence[dict[str, Any]]) -> tuple[Panel, list[float | None]]:
    scale = _scale(checks)
    empty = Panel(title="Test statistic, in thresholds", top=HEADS + 30, bottom=HEADS + 170, ticks=())
    ticks = [value for value in (0, 1, 2, 4) if value <= scale[1]]
    panel = Panel(
        title=empty.title,
        top=empty.top,
        bottom=empty.bottom,
        ticks=tuple((_times(value, empty, scale), f"{value}") for value in ticks),
    )
    ratios = [_ratio(check) for check in checks]
    return panel, [None if ratio is None else _times(ratio, panel, scale) for ratio in ratios]


def _chance_panel(checks: Sequence[dict[str, Any]]) -> tuple[Panel, list[float | None]]:
    top, bottom = HEADS + 214, HEADS + 304
    ticks = tuple((_chance(value, top, bottom), text) for value, text in ((1.0, "1"), (0.1, "0.1"), (0.001, "0.001")))
    panel = Panel(title="p-value; dashed: its level", top=top, bottom=bottom, ticks=ticks)
    return panel, [None if check["p_value"] is None else _chance(check["p_value"], top, bottom) for check in checks]


def _chance(value: float, top: float, bottom: float) -> float:
    return top + (bottom - top) * math.log10(max(value, LEAST_P)) / math.log10(LEAST_P)


def _level(check: dict[str, Any], panel: Panel) -> float | None:
    return None if check["alpha"] is None else _chance(check["alpha"], panel.top, panel.bottom)


def _accuracy_panel(
    checks: Sequence[dict[str, Any]],
) -> tuple[Panel | None, list[float | None], list[float | None]]:
    known = [value for check in checks for value in (check["expected"], check["measured"]) if value is not None]
    if not known:
        return None, [None] * len(checks), [None] * len(checks)
    top, bottom = HEADS + 346, HEADS + 446
    low, high = max(0.0, math.floor(min(known) * 20 - 0.4) / 20), min(1.0, math.ceil(max(known) * 20 + 0.4) / 20)

    def place(value: float | None) -> float | None:
        return None if value is None else bottom - (value - low) / (high - low) * (bottom - top)

    ticks = tuple(
        (bottom - share * (bottom - top), f"{100 * (low + share * (high - low)):.0f} %") for share in (0.0, 0.5, 1.0)
    )
    title = "Expected accuracy" + (
        "; rings: measured on labels" if any(check["measured"] is not None for check in checks) else ""
    )
    panel = Panel(title=title, top=top, bottom=bottom, ticks=ticks)
    return panel, [place(check["expected"]) for check in checks], [place(check["measured"]) for check in checks]


def _words(check: dict[str, Any]) -> list[str]:
    found = [f"{check['images']:,} images"]
    if check["statistic"] is not None and check["threshold"] is not None:
        found.append(f"statistic {check['statistic']:.4g} of {check['threshold']:.4g}")
    if check["p_value"] is not None:
        found.append(f"p {chance(check['p_value'])}")
    for name in ("expected", "measured"):
        if check[name] is not None:
            found.append(f"{name} accuracy {100 * check[name]:.1f} %")
    return found


def _parts(xs: Sequence[float], ys: Sequence[float | None]) -> list[str]:
    """Points of unbroken lines: one for each run of checks that have a value."""
    parts: list[list[str]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            parts.append([])
        else:
            parts[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(part) for part in parts if len(part) > 1]


def _flat(y: float) -> str:
    return f"{LEFT},{y:.1f} {WIDTH - RIGHT},{y:.1f}"


def _changes(
    changes: Sequence[dict[str, Any]], times: Sequence[datetime], xs: Sequence[float], step: float
) -> list[tuple[float, str]]:
    """Between the checks right before and after each change; of several at one place the last one."""
    places: dict[float, str] = {}
    for change in changes:
        before = sum(time <= change["done_at"] for time in times)
        x = xs[0] - step / 2 if before == 0 else xs[before - 1] + step / 2
        arrow = "back to " if change["kind"] == "rollback" else ""
        places[x] = f"{arrow}version {change['model_version']}"
    return sorted(places.items())


def _dates(checks: Sequence[dict[str, Any]], xs: Sequence[float]) -> list[tuple[float, str]]:
    """Up to six dates below the drawing, of the checks they belong to."""
    every = max(1, -(-len(checks) // 6))
    days = [check["created_at"].astimezone(UTC) for check in checks]
    write: Callable[[datetime], str] = (
        (lambda day: f"{day:%d %b}") if days[0].year == days[-1].year else (lambda day: f"{day:%d %b %Y}")
    )
    if days[0].date() == days[-1].date():
        write = lambda day: f"{day:%H:%M}"  # noqa: E731
    return [(xs[place], write(days[place])) for place in range(every // 2, len(checks), every)]
