"""The sections of a recipe, as pydantic models: what may be said, its defaults and its bounds.

`pipelines.recipe` reads the YAML and explains what is wrong with it. These names are the public
interface: add, do not rename.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from curate.corpus.errors import did_you_mean
from pipelines.checking import Checks
from pipelines.evidence import Benchmark, Clean, Decontaminate, Measure, Rules
from pipelines.mixing import Mix
from pipelines.section import Name, Paths, Section, Share

__all__ = [
    "Benchmark",
    "Collect",
    "Mix",
    "Near",
    "Recipe",
    "Source",
    "TokenizerSpec",
]

_MAX_SHINGLE = 100


def _shingle(value: Any) -> Any:
    pattern = r"\s*(\d{1,4})\s+(words|characters)\s*"
    match = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if not match or not 1 <= int(match[1]) <= _MAX_SHINGLE:
        raise ValueError(f"write it as '5 words' or '24 characters', 1 to {_MAX_SHINGLE}")
    return f"{int(match[1])} {match[2]}"


class Source(Section):
    """One source of documents."""

    name: Name
    paths: Paths = Field(description="files, folders, globs or uris, relative to the recipe")
    format: str | None = Field(None, description="a reader's name; by default from the suffix")
    license: str | None = Field(None, description="SPDX id for documents that state none")
    columns: dict[str, str | list[str] | None] | None = Field(
        None, description="text, key, url, license, timestamp -> column"
    )
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="CSV delimiter")
    options: dict[str, str | bool | int | float] = Field(
        default_factory=dict, description="what the format offers; `preceptor list readers`"
    )

    @model_validator(mode="after")
    def _known_columns(self) -> "Source":
        for name in self.columns or {}:
            if name not in ("text", "key", "url", "license", "timestamp"):
                raise ValueError(
                    f"columns maps text, key, url, license and timestamp, not {name!r}"
                )
        return self


class Collect(Section):
    """How input is read."""

    max_document_bytes: int = Field(50_000_000, ge=1, description="longer records go to quarantine")
    part_bytes: int = Field(
        64_000_000, ge=1, description="a large input is cut into parts of about this size"
    )
    bad_files: Share = Field(0.0, description="share of a source's files that may be unreadable")
    bad_records: Share = Field(
        1.0, description="share of a source's records that may be quarantined"
    )


class Near(Section):
    """Near-duplicates by MinHash, LSH and verified similarity of shingle sets."""

    like: Literal["datatrove", "nemo", "dolma3"] | None = Field(
        None, description="another tool's normaliser, shingles, hash and bands"
    )
    shingle: Annotated[str, BeforeValidator(_shingle)] = "5 words"
    numbers: Literal["keep", "zero"] = Field(
        "keep", description="zero: every number becomes 0 before it is compared"
    )
    bands: int = Field(16, ge=1, le=512)
    rows: int = Field(7, ge=1, le=64)
    threshold: float = Field(
        0.8, gt=0, le=1, description="exact similarity at which two documents are duplicates"
    )
    similarity: Literal["jaccard", "containment"] = Field(
        "jaccard", description="of shingle sets: shared / union, or shared / the smaller set"
    )
    max_bucket: int = Field(
        1000, ge=2, description="larger LSH buckets are banded again before pairs are made"
    )
    max_document_bytes: int = Field(
        8_000_000,
        ge=1000,
        description="longer documents become candidates by their beginning; all is verified",
    )
    sample: int = Field(
        8192, ge=0, description="documents whose true twins are searched to measure the recall"
    )

    @model_validator(mode="after")
    def _one_scheme(self) -> "Near":
        given = {"shingle", "numbers", "bands", "rows"} & self.model_fields_set
        if self.like and given:
            raise ValueError(f"like: {self.like} decides {', '.join(sorted(given))}; remove either")
        return self


class Guardrails(Section):
    """Stop the run instead of deleting half a corpus; null switches one off."""

    source_loss: Share | None = 0.5
    cluster_size: Annotated[int, Field(ge=1)] | None = 10_000
    verified_share: Share | None = 0.1


class Deduplicate(Section):
    """Which documents say the same, and who survives."""

    exact: bool = True
    near: Near | None = Field(default_factory=Near)
    scope: Literal["corpus", "within_source", "across_sources"] = Field(
        "corpus", description="which pairs count: all, of one source only, of two sources only"
    )
    priority: list[str] = Field(
        default_factory=list, description="sources, the most wanted first; the others follow"
    )
    exempt: list[str] = Field(
        default_factory=list, description="sources that lose nothing to deduplication"
    )
    against: str | None = Field(
        None, description="a corpus in this store, NAME or NAME@VERSION, whose documents stay"
    )
    keep: str = Field("num_words DESC, doc_id", description="ORDER BY over signals: who survives")
    partition_rows: int = Field(
        500_000,
        ge=1,
        description="rows of a join in memory at a time, some 150 bytes each; changes no result",
    )
    guardrails: Guardrails = Field(default_factory=Guardrails)


class Split(Section):
    """Shares held out, by duplicate cluster."""

    validation: Share = 0.01
    test: Share = 0.01


Special = Literal[
    "bos", "eos", "pad", "mask", "cls", "sep", "fim_prefix", "fim_middle", "fim_suffix"
]


class TokenizerSpec(Section):
    """Train a tokenizer on the sources, bring a tokenizer.json, or take the bytes as they are."""

    train: Literal["bpe"] | None = None
    vocab_size: int = Field(8192, ge=300, le=1_000_000)
    sample_bytes: int = Field(16_000_000, ge=10_000, description="text it is trained on")
    path: str | None = Field(None, description="a tokenizer.json")
    specials: dict[Special, str] | None = Field(
        None, description="what that file calls its boundaries, where they are not found"
    )
    bytes: bool = Field(False, description="every byte is a token")

    @model_validator(mode="after")
    def _one_way(self) -> "TokenizerSpec":
        ways = [name for name in ("train", "path", "bytes") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError("give either 'train' or 'path' or 'bytes', not several of them")
        way = ways[0] if ways else "train"
        for name, own in (("vocab_size", "train"), ("sample_bytes", "train"), ("specials", "path")):
            if own != way and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name!r} goes with {own!r} and means nothing with {way!r}")
        return self


class Tokenize(Section):
    """From text to tokens."""

    tokenizer: TokenizerSpec = Field(default_factory=TokenizerSpec)


class Pack(Section):
    """Rows of the trainer's context length."""

    row_tokens: int = Field(1024, ge=8, le=1 << 20)
    layout: Literal["packed", "stream", "padded", "document"] = Field(
        "packed",
        description="packed: no document that fits a row is cut; stream: end to end; padded: one "
        "document per row, longer ones go on in the next; document: one row each, no more",
    )


class Recipe(Section):
    """A corpus, from its sources to its training rows."""

    name: Name
    seed: int = Field(0, ge=0, lt=2**63)
    sources: list[Source] = Field(min_length=1)
    collect: Collect = Field(default_factory=Collect)
    clean: Clean = Field(default_factory=Clean)
    measure: Measure = Field(default_factory=Measure)
    rules: Rules = Field(default_factory=Rules)
    deduplicate: Deduplicate = Field(default_factory=Deduplicate)
    decontaminate: Decontaminate = Field(default_factory=Decontaminate)
    split: Split = Field(default_factory=Split)
    tokenize: Tokenize = Field(default_factory=Tokenize)
    mix: Mix = Field(default_factory=Mix)
    pack: Pack = Field(default_factory=Pack)
    checks: Checks = Field(default_factory=dict)

    _base: str = "."
    _limit: int | None = None
    _allowed: frozenset[str] = frozenset()

    @property
    def base(self) -> str:
        """The folder relative paths start from."""
        return self._base

    @property
    def limit(self) -> int | None:
        """Records read of each source, None for all."""
        return self._limit

    @property
    def allowed(self) -> frozenset[str]:
        """The functions, `package.module:function`, that the person who runs it lets in."""
        return self._allowed

    @model_validator(mode="after")
    def _names_agree(self) -> "Recipe":
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are called {name!r}")
        for where, used in (
            *self.clean.exempt.items(),
            ("rules.exempt", self.rules.exempt),
            ("rules.override", self.rules.override),
            ("deduplicate.priority", self.deduplicate.priority),
            ("deduplicate.exempt", self.deduplicate.exempt),
        ):
            for name in used:
                if name not in names:
                    raise ValueError(
                        f"{where} names the source {name!r}; sources are: "
                        f"{', '.join(names)}.{did_you_mean(name, names)}"
                    )
        if self.mix.domains == "source":
            for where, name in self.mix.named_domains():
                if name not in names:
                    raise ValueError(
                        f"{where} names the source {name!r}; sources are: "
                        f"{', '.join(names)}.{did_you_mean(name, names)}"
                    )
        if len(set(self.deduplicate.priority)) < len(self.deduplicate.priority):
            raise ValueError("deduplicate.priority names a source twice; name each once")
        benchmarks = [b.name for b in self.decontaminate.against]
        if len(set(benchmarks)) < len(benchmarks):
            raise ValueError("two benchmarks in decontaminate.against have the same name")
        if self.split.validation + self.split.test >= 1:
            raise ValueError("split.validation + split.test leave nothing to train on")
        return self
