"""The four assets through which a stream's DAGs hand over."""

from __future__ import annotations

from airflow.sdk import Asset


def batch(stream: str) -> Asset:
    """Images were taken in that no check has seen."""
    return _asset(stream, "batch")


def clean(stream: str) -> Asset:
    """A check found nothing that asks for retraining."""
    return _asset(stream, "clean")


def alarm(stream: str) -> Asset:
    """A check asks for retraining."""
    return _asset(stream, "alarm")


def champion(stream: str) -> Asset:
    """A new model version is in charge."""
    return _asset(stream, "champion")


def _asset(stream: str, kind: str) -> Asset:
    # Schemes of one's own start with `x-`; Airflow normalises all others.
    return Asset(name=f"tidemark/{stream}/{kind}", uri=f"x-tidemark://{stream}/{kind}", group="tidemark")
