"""Every error a user can meet, as one tree.

TidemarkError                  exit status 1
├── ConfigurationError         exit status 2: wrong usage or configuration
│   ├── StreamNotFound
│   └── StreamInvalid
├── ServiceError               something outside did not serve
│   ├── StoreError
│   │   ├── StoreUnreachable
│   │   ├── StoreRefused       wrong credentials or no right to the bucket
│   │   ├── BucketMissing
│   │   └── ObjectMissing
│   ├── DatabaseError
│   │   ├── DatabaseUnreachable
│   │   ├── DatabaseRefused    wrong credentials
│   │   └── SchemaMismatch     the tables are older or newer than the code
│   └── RegistryError          MLflow
├── StackError                 the embedded stack
│   └── PortTaken
├── Busy                       the same stage already runs for this stream
├── EmptyPrefix
├── SourceBroken               most of what is new cannot be let in
├── LabelsUnreadable           a file that was to be imported holds no labels
├── TrainingImpossible         no labelled images, one class only, …
├── TrainingFailed             NaN loss, out of memory, …
├── ExportMismatch             torch and ONNX disagree
├── ArtefactDamaged            a file the project wrote does not read back
│   └── ModelUnreadable        … an ONNX file
├── CheckFailed
├── NotDelivered               a message that a channel did not take; never ends a run
├── PartlyDelivered            … or did not take for everybody
├── NoChampion
├── IncompleteScore
├── StoryFailed                the demo did not go as it must
└── ImageRejected              one image that is not let in; never ends a run

The message of an error is one line that says what is wrong and what to do. Driver errors are translated where they
occur, in ``pipeline.storage``; nothing above knows botocore, psycopg2 or MLflow exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping


class TidemarkError(Exception):
    """Something went wrong that a user can act on."""

    exit_status = 1


class ConfigurationError(TidemarkError):
    """The command or its configuration is wrong."""

    exit_status = 2


class StreamNotFound(ConfigurationError):
    """No stream file has this name."""


class StreamInvalid(ConfigurationError):
    """A stream file does not say what a stream is."""


class ServiceError(TidemarkError):
    """A service the pipeline needs did not serve."""


class StoreError(ServiceError):
    """The object store failed."""


class StoreUnreachable(StoreError):
    """Nothing answers at the store's address."""


class StoreRefused(StoreError):
    """The store refused the credentials."""


class BucketMissing(StoreError):
    """The bucket does not exist."""


class ObjectMissing(StoreError):
    """The store has no object under this key."""


class DatabaseError(ServiceError):
    """PostgreSQL failed."""


class DatabaseUnreachable(DatabaseError):
    """Nothing answers at the database's address."""


class DatabaseRefused(DatabaseError):
    """The database refused the credentials."""


class SchemaMismatch(DatabaseError):
    """The database's tables do not fit this version of the code."""


class RegistryError(ServiceError):
    """MLflow failed."""


class StackError(TidemarkError):
    """The embedded stack could not be started, stopped or read."""


class PortTaken(StackError):
    """Another program listens on a port that the embedded stack needs."""


class Busy(TidemarkError):
    """The same stage already runs for this stream."""


class EmptyPrefix(TidemarkError):
    """The stream's prefix holds no object."""


class SourceBroken(TidemarkError):
    """Most of what is new in the store cannot be let in."""


class LabelsUnreadable(TidemarkError):
    """Nothing in a file can be read as labels."""


class TrainingImpossible(TidemarkError):
    """The catalogue holds nothing a model could be trained and judged on."""


class TrainingFailed(TidemarkError):
    """Training began and did not end well."""


class ExportMismatch(TidemarkError):
    """The ONNX file does not compute what the trained network computes."""


class ArtefactDamaged(TidemarkError):
    """A file that the project wrote does not read back."""


class ModelUnreadable(ArtefactDamaged):
    """The ONNX file is missing, damaged or not one of this project's."""


class IncompleteScore(TidemarkError):
    """Images are left without a prediction."""


class CheckFailed(TidemarkError):
    """A batch could not be checked."""


class NotDelivered(TidemarkError):
    """A channel did not take a message."""


class MessageRefused(NotDelivered):
    """A channel works, but does not take this one message."""


class PartlyDelivered(TidemarkError):
    """A channel took a message for some of its recipients; the others are named with what it says of each."""

    def __init__(self, sentence: str, refused: Mapping[str, str]) -> None:
        super().__init__(sentence)
        self.refused = dict(refused)


class NoChampion(TidemarkError):
    """The stream has no champion yet."""


class StoryFailed(TidemarkError):
    """The demo did not go as it must."""


class ImageRejected(TidemarkError):
    """An image that is not let in.

    Attributes:
        code: A short reason for machines, such as ``truncated``.
        sentence: The same for people.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
