"""Which data sets and matrices a JSON document refers to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from storage.keys import DATASET_ID_PATTERN, MATRIX_ID_PATTERN

_REFERENCE = re.compile(f"{DATASET_ID_PATTERN}|{MATRIX_ID_PATTERN}")


def referenced_ids(document: Any) -> set[str]:
    """Every string value, at any depth, that is spelled as a data set id or a matrix id.

    Tasks and manifests name their inputs by id wherever their schema wants them; reading them
    off the document means that no task type can forget to declare what it uses.
    """
    return {text for text in _strings(document) if _REFERENCE.fullmatch(text)}


def is_dataset_id(text: str) -> bool:
    return text.startswith("ds-")


def _strings(document: Any) -> Iterator[str]:
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)
