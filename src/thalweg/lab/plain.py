"""Plain data, as JSON and CSV hold it: comparing two pieces of it, and making it of what the lab computes."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, cast

Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | bool | None"


def differences(one: Json, other: Json, field: str = "") -> Iterator[tuple[str, Json, Json]]:
    """Yield (field, one's value, the other's value) for everything that differs, in the order of the field names."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{field}.{key}" if field else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{field}[{number}]")
    elif one != other:
        yield field, one, other


def plainest_difference(one: Json, other: Json) -> tuple[str, Json, Json] | None:
    """Return the difference whose field is the shortest to say; None if there is none."""
    return min(differences(one, other), key=lambda difference: len(difference[0]), default=None)


def brief(value: Json) -> str:
    """Say a value in a few words: long lists by their length."""
    if isinstance(value, list) and len(value) > 3:
        return f"a list of {len(value)}"
    return json.dumps(value, ensure_ascii=False)


def plain(value: Any) -> Json:
    """Turn dataclasses into dictionaries and infinities into null, all the way down."""
    if dataclasses.is_dataclass(value):
        return plain(dataclasses.asdict(cast(Any, value)))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [plain(item) for item in cast(list[Any], value)]
    return None if isinstance(value, float) and not math.isfinite(value) else cast(Json, value)


def csv_text(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table as CSV; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
