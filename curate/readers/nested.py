"""Records that keep address, licence and date one level down, in `metadata`: bring them up.

>>> lifted({"text": "x", "metadata": {"url": "https://a.org", "n": 1}}, Columns(), {"url": ["url"]})
{'text': 'x', 'url': 'https://a.org', 'metadata': {'n': 1}}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from curate.readers.columns import Columns

__all__ = ["lifted"]


def lifted(
    record: Mapping[str, Any], columns: Columns, names: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return a record with fields of its `metadata` where the columns look for them.

    Args:
        record: one line of the file.
        columns: the recipe's; a column that it names itself is left alone.
        names: field (url, license, timestamp) -> its names in `metadata`, the best first.
    """
    result = dict(record)
    inner = result.get("metadata")
    if not isinstance(inner, dict):
        return result
    rest = dict(inner)
    for field, candidates in names.items():
        column = getattr(columns, field)
        if column is None or column in columns.named or result.get(column) is not None:
            continue
        for name in candidates:
            if isinstance(rest.get(name), str) and rest[name]:
                result[column] = rest.pop(name)
                break
    del result["metadata"]
    if rest:
        result["metadata"] = rest
    return result
