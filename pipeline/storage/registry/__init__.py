"""MLflow: training runs, model versions, and the aliases that say who is in charge. Its errors as ours."""

from pipeline.storage.registry.versions import CHALLENGER, CHAMPION, MODEL_FILE, Registry

__all__ = ["CHALLENGER", "CHAMPION", "MODEL_FILE", "Registry"]
