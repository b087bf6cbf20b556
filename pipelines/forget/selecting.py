"""Which documents a request names: ids from a file, a condition in SQL, or a pattern of addresses.

A pattern is a glob over the whole address, without regard to case: `*` stands for any characters
and `?` for one; everything else is itself. It becomes an anchored regular expression for an engine
of linear time, so no pattern can take long. The address as it was read counts, also where a recipe
hides a part of it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.corpus.errors import InputError
from curate.corpus.identity import parse_id
from curate.rules.expression import parse_rule
from pipelines.corpus import Corpus
from pipelines.recipe import _short
from pipelines.store import Version

__all__ = ["Request", "glob_to_regex", "read_ids", "select", "versions_of"]

_MAX_FILE_BYTES = 256 << 20
_COLUMNS = ("doc_id", "source", "key", "url", "license", "timestamp", "path", "position")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a takedown asks for; exactly one of the three.

    Attributes:
        ids: document ids.
        where: a condition over the columns of `documents` but the text, and over `signals`.
        url: a pattern of addresses.
    """

    ids: tuple[bytes, ...] | None = None
    where: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.ids, self.where, self.url) if value is not None]
        if len(given) != 1:
            raise InputError(
                f"say what to forget with one of --ids, --where and --url; {len(given)} were given"
            )
        if self.url is not None and not self.url.strip("*? "):
            raise InputError(
                f"--url {_short(self.url)} names every address; say a part of it, such as "
                "'https://example.org/*'"
            )

    def told(self) -> dict[str, Any]:
        """Return the request for a receipt."""
        if self.ids is not None:
            return {"ids": [one.hex() for one in self.ids]}
        return {"where": self.where} if self.where is not None else {"url": self.url}


def read_ids(path: str | Path) -> tuple[bytes, ...]:
    """Read a file of document ids, one a line; empty lines and lines after `#` say nothing.

    Raises:
        InputError: unreadable, empty, or a line that is no id.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"--ids {path} is larger than {_MAX_FILE_BYTES >> 20} MB")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"--ids: cannot read {path}: {told}") from None
    ids: dict[bytes, None] = {}
    for number, line in enumerate(lines, 1):
        word = line.partition("#")[0].strip().strip("\"',")
        if not word or (number == 1 and word == "doc_id"):  # the head of a CSV
            continue
        try:
            ids[parse_id(word.lower())] = None
        except ValueError:
            raise InputError(
                f"--ids {path}, line {number}: {word[:60]!r} is no document id; one has 32 "
                "hexadecimal digits (`preceptor table CORPUS verdicts` shows them)"
            ) from None
    if not ids:
        raise InputError(f"--ids {path} holds no document id")
    return tuple(ids)


def glob_to_regex(pattern: str) -> str:
    r"""Return a glob as an anchored regular expression without regard to case.

    >>> glob_to_regex("https://a.org/*?")
    '(?is)^https://a\\.org/.*.$'
    """
    pieces = {"*": ".*", "?": "."}
    return "(?is)^" + "".join(pieces.get(c) or re.escape(c) for c in pattern) + "$"


def versions_of(corpus: Corpus) -> list[Version]:
    """Return the versions of a corpus whose texts are there, the newest first."""
    store, name = corpus.store, corpus.version.name
    withdrawn = store.withdrawn(name)
    return [v for v in reversed(store.history(name)) if v.number not in withdrawn]


def select(
    corpora: Sequence[Corpus], request: Request, records: Iterable[Mapping[str, Any]] = ()
) -> tuple[set[bytes], list[bytes], list[Corpus]]:
    """Return the documents that a request names, the ids nobody has, and where it was looked.

    Args:
        corpora: the versions to look at, the most important first: a condition that others cannot
            be asked, for want of a signal, is not asked of them.
        request: what is asked for.
        records: takedowns before that were asked the same: they name the same documents still,
            though these have no address any more.
    """
    found = {bytes.fromhex(one) for record in records for one in record["named"]}
    looked_at: list[Corpus] = []
    for corpus in corpora:
        if any(corpus.version == one.version for one in looked_at):
            continue
        if request.url is not None:
            found |= _by_url(corpus, request.url)
        elif request.where is not None:
            try:
                found |= _by_condition(corpus, request.where)
            except InputError:
                if corpus is corpora[0]:
                    raise
                continue
        elif left := set(request.ids or ()) - found:
            frame = corpus.table("verdicts", hex_ids=False).select("doc_id")
            wanted = pl.Series(sorted(left), dtype=pl.Binary).implode()
            found |= set(frame.filter(pl.col("doc_id").is_in(wanted)).collect()["doc_id"])
        looked_at.append(corpus)
    return found, sorted(set(request.ids or ()) - found), looked_at


def _by_url(corpus: Corpus, pattern: str) -> set[bytes]:
    regex = glob_to_regex(pattern)
    found: set[bytes] = set()
    for table in ("raw", "documents"):
        frame = corpus.table(table, hex_ids=False, as_stored=True).select("doc_id", "url")
        try:
            found |= set(frame.filter(pl.col("url").str.contains(regex)).collect()["doc_id"])
        except pl.exceptions.ComputeError as error:
            raise InputError(f"--url {_short(pattern)} is no pattern: {_short(error)}") from None
    return found


def _by_condition(corpus: Corpus, condition: str) -> set[bytes]:
    documents = corpus.table("documents", as_stored=True).select(_COLUMNS)
    signals = corpus.table("signals").drop("text_hash")
    frame = documents.join(signals, on="doc_id", how="left", maintain_order="left")
    columns = {
        name: dtype
        for name, dtype in frame.collect_schema().items()
        if not isinstance(dtype, pl.List | pl.Struct)
    }
    try:
        rule = parse_rule("where", condition, columns)
    except InputError as error:
        told = str(error).replace("signals are", "columns are").replace("rule 'where'", "condition")
        told = told.replace(repr(condition), _short(condition))
        told = re.sub(r"'([^']{58,})'", lambda found: _short(found[1]), told)
        raise InputError(f"--where: {told}") from None
    mask = rule.expression.fill_null(value=False)
    found = frame.filter(mask).select("doc_id").collect()["doc_id"]
    return {bytes.fromhex(one) for one in found}
