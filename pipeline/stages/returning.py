"""Which versions can take charge again, as far as that is seen without fetching anything large."""

from __future__ import annotations

from pipeline.errors import ArtefactDamaged, ConfigurationError
from pipeline.settings import Settings
from pipeline.storage import keys
from pipeline.storage.catalog import Catalog, connect
from pipeline.storage.objects import ObjectStore


def require_able(catalog: Catalog, store: ObjectStore, stream: str, version: int, champion: int | None) -> None:
    """Refuse what cannot be put in charge, before anybody is asked whether it is meant.

    A version that was never in charge may be, if a reference was frozen with it.

    Raises:
        ConfigurationError: It is in charge already, or retention has taken its files away.
        ArtefactDamaged: It has no reference.
        ServiceError: Database or store do not serve.
    """
    if champion is None:
        raise ConfigurationError(f"no version of stream {stream} is in charge yet: there is nothing to return from")
    if version == champion:
        raise ConfigurationError(f"version {version} of stream {stream} is in charge already")
    if when := catalog.pruned(stream, "model", str(version)).get(str(version)):
        raise ConfigurationError(
            f"version {version} of stream {stream} was pruned on {when:%Y-%m-%d}, its files are gone: "
            f"name another (`tidemark models {stream}`)"
        )
    if not store.has_artifact(keys.reference(stream, version)):
        raise no_reference(stream, version)


def require_able_to_return(settings: Settings, stream: str, version: int) -> None:
    """The same for who has but the settings, with the champion that the catalogue has noted.

    Raises:
        ConfigurationError, ArtefactDamaged, ServiceError: As ``require_able`` does.
    """
    with connect(settings) as catalog:
        champion = catalog.noted_champion(stream)
        require_able(catalog, ObjectStore.from_settings(settings), stream, version, champion)


def no_reference(stream: str, version: int) -> ArtefactDamaged:
    """What is said of a version that nothing can be compared with."""
    return ArtefactDamaged(
        f"version {version} of stream {stream} has no reference ({keys.reference(stream, version)} is missing): "
        f"`tidemark retrain {stream} --force` makes a new model with one"
    )
