"""What is wrong with a row, as words for the person who wrote it."""

from __future__ import annotations

from pipeline.naming import quoted


def sentence(code: str, target: str | None, label: str | None, detail: str | None) -> str:
    """One sentence for a problem; `code` is the catalogue's short word for it."""
    key, said = _quoted(target), _quoted(label)
    match code:
        case "no_key":
            return "names no image: fill in `key` or `file`"
        case "no_label":
            return f"gives {key} no label"
        case "bad_label":
            return f"the label of {key} {detail}"
        case "conflict":
            return f"says {said} of {key}, and elsewhere this file says {detail} of the same image: none of it counts"
        case "unknown_key":
            return f"{key} is no image of the stream; should it arrive, it is labelled {said}"
        case "quarantined":
            return f"{key} is in quarantine ({detail}); once it is let in, it is labelled {said}"
        case "ambiguous":
            return f"{key} is the name of {detail} files: give the whole key"
        case "unknown_class":
            return f"{said}, the label of {key}, is not one of the stream's classes"
    return detail or code


def _quoted(value: str | None) -> str:
    if value is None:
        return "a row"
    return quoted(value if len(value) <= 200 else value[:200] + "…")
