"""Schedules: which are let in, and how often they come."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from croniter import CroniterBadDateError, croniter

EVERY_DAY = 365.25  # days of a year
CYCLE = 28  # years, after which weekdays, dates and leap years fall together again
ENOUGH = 400  # days: counting more of them takes longer and changes the mean by less than a hundredth
FIRST_YEAR = 2026  # any that is fixed: the same schedule is always counted alike


def valid_cron(value: str | None) -> str | None:
    """A cron expression of five fields, or None.

    Raises:
        ValueError: It is none, or names a day that no year has.
    """
    if value is None:
        return None
    if len(value.split()) != 5 or not croniter.is_valid(value):
        raise ValueError("a cron expression of five fields such as `0 2 * * *`, or null")
    try:
        croniter(value, _start_of(FIRST_YEAR)).get_next(float)
    except CroniterBadDateError:
        raise ValueError("a cron expression of a day that some year has, or null") from None
    return value


@lru_cache(maxsize=256)
def runs_per_year(schedule: str) -> float:
    """How often a valid cron expression comes in a year, on average.

    Its days are counted over whole years and multiplied by its times of day: a schedule of working hours on Mondays is
    silent for most of the week, and one of leap days for years.
    """
    minutes, hours, *dates = croniter.expand(schedule)[0]
    times = (60 if "*" in minutes else len(minutes)) * (24 if "*" in hours else len(hours))
    if all("*" in field for field in dates):
        return times * EVERY_DAY
    days = croniter(" ".join(["0", "0", *schedule.split()[2:]]), _start_of(FIRST_YEAR) - 1)
    counted = years = 0
    day = days.get_next(float)
    while years < CYCLE and counted < ENOUGH:
        years += 1
        while day < _start_of(FIRST_YEAR + years):
            counted += 1
            day = days.get_next(float)
    return times * counted / years


def _start_of(year: int) -> float:
    return datetime(year, 1, 1, tzinfo=UTC).timestamp()
