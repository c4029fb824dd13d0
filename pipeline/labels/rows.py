"""One row, whatever the format it came in: a claim, a problem, or a label left open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.labels.text import has_control, is_unfit
from pipeline.naming import quoted
from pipeline.records import Claim, LabelProblem, Unlabelled

Outcome = Claim | LabelProblem | Unlabelled

MAX_KEY_BYTES = 1024  # S3's own limit
MAX_LABEL = 200  # characters

# Names that people give to columns and fields, in the order in which they count.
KEYS = ("key",)
NAMES = ("file", "filename", "file_name")
LABELS = ("label", "choice")  # Label Studio's template for image classification says `choice`
AUTHORS = ("author", "annotator")
LINKS = ("image",)  # in Label Studio's tasks a link, in other people's tables a path


class Unclear(Exception):
    """A value that is no single label; its text says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are taken.

    Attributes:
        bucket: The image bucket; links into it say which key is meant.
        may_be_open: Whether an empty label is left open rather than wrong.
    """

    bucket: str
    may_be_open: bool = False

    def row(
        self, line: int, *, key: str = "", name: str = "", link: str = "", label: Any = "", author: Any = None
    ) -> Outcome:
        """What one row says. The key counts before the file's name, that before a link."""
        target, by_name = self._target(key, name, link)
        try:
            text = label_text(label)
        except Unclear as unclear:
            shown = None if is_unfit(target) else target or None
            return LabelProblem(line=line, code="bad_label", target=shown, detail=str(unclear))
        if not text and self.may_be_open:
            return Unlabelled(line=line)
        for value, what in ((target, "key"), (text, "label")):
            if is_unfit(value):
                return LabelProblem(
                    line=line, code="malformed", detail=f"its {what} holds NUL or bytes that are no text"
                )
        if not target:
            return LabelProblem(line=line, code="no_key", label=text or None)
        if len(target.encode()) > MAX_KEY_BYTES:
            return LabelProblem(line=line, code="malformed", detail=f"its key is longer than {MAX_KEY_BYTES} bytes")
        if not text:
            return LabelProblem(line=line, code="no_label", target=target)
        if len(text) > MAX_LABEL:
            return LabelProblem(
                line=line, code="bad_label", target=target, detail=f"is longer than {MAX_LABEL} characters"
            )
        if has_control(text):
            return LabelProblem(line=line, code="bad_label", target=target, detail="holds a line break or a tab")
        return Claim(line=line, target=target, by_name=by_name, label=text, author=_author(author))

    def _target(self, key: str, name: str, link: str) -> tuple[str, bool]:
        if key:
            return self._without_bucket(key), False
        if name:
            # A path says more than a name: it is read as a key below the prefix.
            return self._without_bucket(name), "/" not in name
        if link and "://" not in link and not link.startswith(("/", "data:")):
            return link, "/" not in link
        return key_of_link(link, self.bucket) or "", False

    def _without_bucket(self, key: str) -> str:
        return key.removeprefix(f"s3://{self.bucket}/")


def label_text(value: Any) -> str:
    """A label as text: text itself, or the one choice of Label Studio's lists. Nothing is the empty text.

    Raises:
        Unclear: The value is of another kind, or names several labels.
    """
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    found = set(_choices(value))
    if len(found) > 1:
        raise Unclear(f"names several labels ({', '.join(quoted(label[:40]) for label in sorted(found)[:3])})")
    return found.pop() if found else ""


def _choices(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
    elif isinstance(value, list):
        for item in value:
            yield from _choices(item)
    elif isinstance(value, dict) and "choices" in value:
        yield from _choices(value["choices"])
    else:
        raise Unclear(f"is no text ({repr(value)[:40]})")


def key_of_link(link: str, bucket: str) -> str | None:
    """The key that ``s3://bucket/key`` or ``https://host/bucket/key?…`` leads to, or None for any other link."""
    if link.startswith("s3://"):
        start = f"s3://{bucket}/"
        return link[len(start) :] or None if link.startswith(start) else None
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.path.startswith(f"/{bucket}/"):
        return None
    return unquote(parts.path[len(bucket) + 2 :]) or None


def _author(value: Any) -> str | None:
    if isinstance(value, dict):  # Label Studio's users, in full
        value = value.get("email") or value.get("username") or value.get("id")
    if not isinstance(value, str) or not value.strip() or is_unfit(value) or has_control(value.strip()):
        return None
    return value.strip()[:200]
