"""The documents that are judged: a sample, chosen by hash, of every text file of the shared data.

An id is `file#key`, the key being the row's own or its number; `find` gives the texts back.
"""

import bz2
import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import pyarrow.parquet as pq
import zstandard

FILES = (
    "text/code_python.parquet",
    "text/docs_peps.parquet",
    "text/docs_tldr.jsonl.gz",
    "text/enwiki_sample.xml.bz2",
    "text/gov_speeches_us.jsonl.gz",
    "text/multilingual_udhr.jsonl.zst",
    "text/prose_eltec_eng.jsonl.zst",
    "text/support_banking77_train.csv.gz",
    "web/commoncrawl_text_sample.jsonl.gz",
    "neardup/licenses.jsonl.zst",
    "neardup/pep_revisions.jsonl.zst",
    "probe/sentence_polarity.jsonl.gz",
    "probe/sms_spam.jsonl.gz",
)
MAX_CHARS = 10_000


def texts_of(path: Path) -> Iterator[str]:
    """Yield the text of every row of a file, in order."""
    name = path.name
    if name.endswith(".parquet"):
        yield from pq.read_table(path, columns=["text"]).column("text").to_pylist()
    elif name.endswith(".xml.bz2"):
        whole = bz2.decompress(path.read_bytes()).decode()
        for page in whole.split("<text ")[1:]:  # wikitext as it is, entities and all
            yield page.partition(">")[2].partition("</text>")[0]
    else:
        data = path.read_bytes()
        if name.endswith(".gz"):
            text = gzip.decompress(data).decode()
        else:
            text = zstandard.ZstdDecompressor().stream_reader(data).read().decode()
        lines = io.StringIO(text, newline="\n")
        if ".csv" in name:
            yield from (row["text"] for row in csv.DictReader(lines))
        else:
            yield from (json.loads(line)["text"] for line in lines)


def choose(data: Path, wanted: int) -> list[tuple[str, str]]:
    """Return about `wanted` (id, text): every file gives the same number, or all it has."""
    files = {file: list(enumerate(texts_of(data / file))) for file in FILES}
    for file, rows in files.items():
        rows = [(n, text) for n, text in rows if text and len(text) <= MAX_CHARS]
        files[file] = sorted(rows, key=lambda row, file=file: _rank(f"{file}#{row[0]}"))
    share = _share([len(rows) for rows in files.values()], wanted)
    return [
        (f"{file}#{number}", text)
        for file, rows in files.items()
        for number, text in sorted(rows[:share])
    ]


def find(data: Path, ids: Iterable[str]) -> dict[str, str]:
    """Return id -> text of the documents named."""
    by_file: dict[str, set[int]] = {}
    for one in ids:
        file, _, number = one.rpartition("#")
        by_file.setdefault(file, set()).add(int(number))
    return {
        f"{file}#{number}": text
        for file, numbers in by_file.items()
        for number, text in enumerate(texts_of(data / file))
        if number in numbers
    }


def digest(text: str) -> str:
    """Return 16 hex digits that tell whether a text is the one that was judged."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _rank(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()


def _share(sizes: list[int], wanted: int) -> int:
    """Return the rows to take of each file, where it has as many, for `wanted` in all."""
    share = 1
    while sum(min(size, share) for size in sizes) < min(wanted, sum(sizes)):
        share += 1
    return share
