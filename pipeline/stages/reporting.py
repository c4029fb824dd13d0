"""Reports of checks: drawn, written to the store."""


def write_report(place, check, tested): ...
