"""The corpora of the checks of text, code and logs, each split by what would leak."""

import csv
import gzip
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from curate.readers.base import InputFile, Slice
from curate.readers.logs import READER

__all__ = ["CORPORA", "TEST", "VALIDATION", "Corpus", "labelled", "part_of"]

#: A tenth of the texts is the test; another tenth was looked at while the checks were written.
TEST, VALIDATION = 0, 1
#: Characters of a document of code: some lines that follow one another.
BLOCK = 320
#: Packages that no model has seen; two versions of one are on the same side.
UNSEEN = {"click", "flask", "httpx", "jinja2", "requests", "werkzeug"}
#: Of a line in Apache's combined format, the method, the path without its query, the status, and
#: the end of the line.
FIELDS = (
    r'(?<=\] ")[A-Z]+(?= )|(?<="GET )[^ ?"]+|(?<="POST )[^ ?"]+|(?<="HEAD )[^ ?"]+'
    r"|(?<=HTTP/1.[01]\" )\d{3}|\n"
)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents by source, and how they become rows."""

    train: dict[str, list[str]]
    held_out: dict[str, list[str]]
    row_tokens: int
    tokenizer: str | int | bytes = field(default="bytes", repr=False)


def part_of(key: str) -> int:
    """Return 0 to 9 by a hash of what may not be on both sides."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % 10


def labelled(data: Path) -> dict[str, list[tuple[str, str]]]:
    """Return short English texts with labels: messages, sentences of reviews, queries to a bank."""

    def lines(name: str) -> list[tuple[str, str]]:
        with gzip.open(data / "probe" / name, "rt", encoding="utf-8") as stream:
            return [(one["text"], str(one["label"])) for one in map(json.loads, stream)]

    with gzip.open(data / "text/support_banking77_train.csv.gz", "rt", encoding="utf-8") as stream:
        bank = [(row["text"], row["category"]) for row in csv.DictReader(stream)]
    return {
        "sms": lines("sms_spam.jsonl.gz"),
        "reviews": lines("sentence_polarity.jsonl.gz"),
        "bank": bank,
    }


def short(data: Path) -> Corpus:
    """Return the short texts as bytes; equal ones are on the same side, and held out once."""
    found = labelled(data)
    rest = {name: [t for t, _ in some if part_of(t) > VALIDATION] for name, some in found.items()}
    test = {
        name: sorted({t for t, _ in some if part_of(t) == TEST}) for name, some in found.items()
    }
    return Corpus(train=rest, held_out=test, row_tokens=128)


def code(data: Path) -> Corpus:
    """Return blocks of lines of Python, by package; a small BPE makes its tokens."""
    table = pq.read_table(data / "text/code_python.parquet", columns=["package", "doc_key", "text"])
    newest = {row["doc_key"]: row for row in table.to_pylist()}
    parts: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for key in sorted(newest, key=lambda key: hashlib.blake2b(key.encode()).digest()):
        package = newest[key]["package"]
        blocks = parts[package in UNSEEN].setdefault(package, [])
        if len(blocks) < 2500:
            blocks.extend(_blocks(newest[key]["text"]))
    test = {name: sorted(set(some))[::5][:100] for name, some in sorted(parts[True].items())}
    train = {name: some[:2500] for name, some in sorted(parts[False].items())}
    return Corpus(train=train, held_out=test, row_tokens=160, tokenizer=1024)


def _blocks(text: str) -> Iterator[str]:
    """Cut a file at ends of lines into blocks of about `BLOCK` characters; short ones are left."""
    block = ""
    for line in text.splitlines(keepends=True):
        block += line
        if len(block) >= BLOCK:
            if len(block) < 2 * BLOCK:
                yield block
            block = ""


def logs(data: Path) -> Corpus:
    """Return the sessions of an access log's clients, as a recipe's reader makes them."""
    path = data / "text/logs_apache_access.log.gz"
    file = InputFile(uri=str(path), path=path.name, size=path.stat().st_size, version="0")
    options = {"options": {"group": "session", "session": "host", "window": 3600}}
    parts: dict[bool, list[str]] = {True: [], False: []}
    content = gzip.decompress(path.read_bytes())
    for batch in READER.read(Slice(file), lambda: io.BytesIO(content), options):
        for text in batch.records["text"].to_pylist():
            parts[part_of(text.split(" ", 1)[0]) in (TEST, 5)].append(text + "\n")
    tokenizer = fields_tokenizer(parts[False])
    return Corpus(
        train={"web": parts[False]},
        held_out={"web": parts[True]},
        row_tokens=96,
        tokenizer=tokenizer,
    )


def fields_tokenizer(texts: Sequence[str], least: int = 2) -> bytes:
    """Return a `tokenizer.json` whose tokens are the fields of lines, those seen `least` times."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    counts = Counter(value for text in texts for value in re.findall(FIELDS, text))
    names = ["<|bos|>", "<|eos|>", "<|pad|>", "<|mask|>"]
    values = sorted(value for value, count in counts.items() if count >= least)
    vocabulary = {value: i for i, value in enumerate([*names, "<|unknown|>", *values])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(FIELDS), "removed", invert=True)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    return str(tokenizer.to_str()).encode()


CORPORA = {"short": short, "code": code, "logs": logs}
