"""Every file of the labelled text and web data, as it is: all records arrive, and none is refused.

Beside them stand twenty broken records, one of each kind that people have; all go to quarantine.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pipelines.build import run
from pipelines.corpus import Corpus, open_corpus
from pipelines.recipe import parse_recipe

# file -> documents, as the data's README counts pages and posts; it counts 592 posts, of which ten
# have an empty body and so no text.
EMPTY_POSTS = 10
FILES = {
    "text/enwiki_sample.xml.bz2": 206,
    "text/forum_stackexchange_coffee.xml.gz": 592 - EMPTY_POSTS,
    "web/cc_licensed_pages.warc.gz": 23,
    "web/commoncrawl_whirlwind.warc.gz": 1,
    "web/commoncrawl_whirlwind.warc.wet.gz": 1,
    "web/debian_handbook_6lang.warc.gz": 762,
}
LOG, LOG_LINES = "text/logs_apache_access.log.gz", 10_000
MMLU = {
    "name": "mmlu",
    "paths": ["benchmarks/mmlu_test.jsonl.gz"],
    "columns": ["question", "choices"],
}


def collected(folder: Path, store: Path, sources: list[dict[str, Any]], **sections: Any) -> Corpus:
    recipe = {
        "name": "formats",
        "sources": sources,
        "deduplicate": {"guardrails": {"source_loss": None}},
        "tokenize": {"tokenizer": {"vocab_size": 300, "sample_bytes": 100_000}},
        **sections,
    }
    run(parse_recipe(yaml.safe_dump(recipe), base=str(folder)), store=str(store))
    return open_corpus("formats", store=str(store))


@pytest.fixture(scope="module")
def shared(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    names = [*FILES, LOG]
    sources = [{"name": f"s{number}", "paths": [name]} for number, name in enumerate(names)]
    against = {"against": [MMLU]}
    return collected(
        shared_data, tmp_path_factory.mktemp("formats"), sources, decontaminate=against
    )


@pytest.mark.slow
def test_every_page_post_and_line_arrives_and_nothing_sound_is_refused(shared: Corpus) -> None:
    documents = shared.table("documents").select("source", "path", "meta").collect()
    counts = dict(documents.group_by("path").len().iter_rows())
    found = {name: next(n for path, n in counts.items() if path.endswith(name)) for name in FILES}
    assert found == FILES
    refused = shared.table("quarantine").group_by("uri", "reason").len().collect().rows()
    assert [(Path(uri).name, reason, count) for uri, reason, count in refused] == [
        ("forum_stackexchange_coffee.xml.gz", "no_text", EMPTY_POSTS)
    ]
    logs = documents.filter(pl.col("path").str.ends_with(LOG))["meta"].to_list()
    assert sum(json.loads(meta)["lines"] for meta in logs) == LOG_LINES


@pytest.mark.slow
def test_pages_keep_their_address_and_what_they_state(shared: Corpus) -> None:
    documents = shared.table("documents").collect()

    def share(path: str, column: str) -> float:
        rows = documents.filter(pl.col("path").str.ends_with(path))
        return rows[column].is_not_null().mean()  # type: ignore[return-value]

    for path in FILES:
        assert share(path, "timestamp") == 1, path
    for path in ("enwiki_sample.xml.bz2", *(name for name in FILES if name.startswith("web/"))):
        assert share(path, "url") == 1, path


@pytest.mark.slow
def test_the_listed_overlap_with_the_encyclopedia_is_found(shared: Corpus) -> None:
    hits = shared.table("contamination").collect()
    wiki = shared.table("documents").filter(pl.col("path").str.contains("enwiki")).collect()
    assert hits.filter(pl.col("doc_id").is_in(wiki["doc_id"].implode()))["item"].n_unique() >= 2


def warc_record(kind: str, body: bytes, **headers: str) -> bytes:
    names = {"WARC-Type": kind, "WARC-Record-ID": f"<urn:test:{len(body)}>", **headers}
    names |= {"WARC-Date": "2020-01-02T03:04:05Z", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in names.items())
    return b"WARC/1.0\r\n" + head.encode() + b"\r\n" + body + b"\r\n\r\n"


def response(url: str, status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n\r\n".encode()
    return warc_record(
        "response",
        head + body,
        **{"WARC-Target-URI": url, "Content-Type": "application/http; msgtype=response"},
    )


PAGE = (
    b"<html><body><article><p>"
    + b"A page that people read, with whole sentences in it. " * 9
    + b"</p></article></body></html>"
)


def planted() -> dict[str, tuple[bytes, int, int]]:
    """Return name -> (content, sound records, broken records)."""
    jsonl = [b'{"text": "sound"}', b'{"text": ', b"[1]", b'{"id": 1}', b'{"text": 7}']
    jsonl += [b'{"text": ""}', b'{"text": "\xff"}']
    warc = [
        response("http://a.test/1", "200 OK", "text/html", PAGE),
        response("http://a.test/2", "404 Not Found", "text/html", PAGE),
        response("http://a.test/3", "200 OK", "image/png", b"\x89PNG"),
        response("http://a.test/4", "200 OK", "text/html", b"<html></html>"),
    ]
    return {
        "a.jsonl": (b"\n".join(jsonl), 1, 6),
        "b.csv": (b"id,text\n1,sound\n2,a,b\n3\n", 1, 2),
        "c.txt": (b"\xff\xfe\x00", 0, 1),
        "d.txt": (b"", 0, 1),
        "e.md": (b"\x80", 0, 1),
        "f.py": (b"x = '\xff'", 0, 1),
        "g.warc.gz": (b"".join(map(gzip.compress, warc)), 1, 3),
        "h.html": (b"<html><script>1</script></html>", 0, 1),
        "i.ipynb": (b"{", 0, 1),
        "j.ipynb": (b'{"nbformat": 4, "cells": 3}', 0, 1),
        "k.eml": (b"From: a@b.test\n\n", 0, 1),
        "l.eml": (b"", 0, 1),
    }


def test_twenty_broken_records_all_go_to_quarantine(tmp_path: Path) -> None:
    files = planted()
    (tmp_path / "in").mkdir()
    for name, (content, _, _) in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    assert sum(broken for _, _, broken in files.values()) == 20
    corpus = collected(tmp_path, tmp_path / "store", [{"name": "all", "paths": ["in"]}])
    refused = corpus.table("quarantine").collect()
    told = dict(refused.group_by(pl.col("uri").str.split("/").list.last()).len().iter_rows())
    assert told == {name: broken for name, (_, _, broken) in files.items() if broken}
    sound = corpus.table("documents").collect()
    assert sound.height == sum(good for _, good, _ in files.values())
    assert refused["detail"].str.len_chars().min() > 0  # type: ignore[operator]
