"""Croissant 1.1 metadata (mlcommons.org/croissant): what the files of a Parquet export hold.

The JSON-LD is written here and checked by mlcroissant (`make check-exports`), which would pull in
pandas, rdflib and networkx. It has no date: the same corpus gives the same bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.corpus.storage import sha256_of
from pipelines.corpus import Corpus
from pipelines.exchange.licences import licences_of
from pipelines.exchange.markdown import one_line
from pipelines.exchange.texts import SCHEMA

__all__ = ["write_croissant"]

_CR = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field"),
    *("fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset"),
    *("jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    **{name: f"cr:{name}" for name in _CR},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
_PARQUET = "application/x-parquet"
_ABOUT = {
    "id": "the document's id, 32 hexadecimal digits",
    "text": "the text, as it is tokenized",
    "source": "the name of its source",
    "split": "train, validation or test",
    "url": "where it comes from",
    "license": "its licence, as its source tells it",
    "meta": "other fields of the record, as JSON",
    "text_hash": "hash of the cleaned text, 32 hexadecimal digits",
}


def write_croissant(corpus: Corpus, folder: Path, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Write `croissant.json`: every file with its sha256, and a record set for each split."""
    files = [name for one in splits.values() for name in one["files"]]
    data = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": corpus.version.name,
        "description": (
            f"The corpus {corpus.version}, curated by Preceptor: "
            + ", ".join(f"{one['documents']:,} documents in {s}" for s, one in splits.items())
            + ". README.md tells what was removed and why; preceptor.json how it was made."
        ),
        "version": f"{corpus.version.number}.0.0",
        "license": [one_line(name) for name in licences_of(corpus)] or ["unknown"],
        "sameAs": f"urn:preceptor:{corpus.version.fingerprint}",
        "distribution": [
            *(_file(folder, name) for name in files),
            *(_files(split) for split in splits),
        ],
        "recordSet": [_records(split) for split in splits],
    }
    text = json.dumps(data, indent=1, sort_keys=True)
    (folder / "croissant.json").write_text(text + "\n", encoding="utf-8")


def _file(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    with path.open("rb") as stream:
        digest = sha256_of(stream)
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": path.name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _PARQUET,
        "sha256": digest,
    }


def _files(split: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"files-{split}",
        "name": f"files-{split}",
        "encodingFormat": _PARQUET,
        "includes": f"data/{split}-*.parquet",
    }


def _records(split: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "description": f"the documents of the split {split}",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{split}/{column}",
                "name": column,
                "description": _ABOUT[column],
                "dataType": "sc:Text",
                "source": {"fileSet": {"@id": f"files-{split}"}, "extract": {"column": column}},
            }
            for column in SCHEMA.names
        ],
    }
