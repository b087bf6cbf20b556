"""The sections of a recipe, as pydantic models: what may be said, its defaults and its bounds.

`pipelines.recipe` reads the YAML and explains what is wrong with it. These names are the public
interface: add, do not rename.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from curate.corpus.errors import did_you_mean
from pipelines.checking import Checks
from pipelines.evidence import Benchmark, Clean, Decontaminate, Measure, Rules
from pipelines.mixing import Mix, parse_budget
from pipelines.section import Name, Paths, Section, Share
from pipelines.tokenizing import Tokenize, TokenizerSpec, budget_unit, media_told, units_of

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
_KEEP = {"image": "image_megapixels DESC, doc_id", "audio": "audio_duration_s DESC, doc_id"}
_LEAST_TOKENS = 8  # of a row of text


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
        None, description="text, media, key, url, license, timestamp -> column"
    )
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="CSV delimiter")
    options: dict[str, str | bool | int | float] = Field(
        default_factory=dict, description="what the format offers; `preceptor list readers`"
    )

    @model_validator(mode="after")
    def _known_columns(self) -> "Source":
        for name in self.columns or {}:
            if name not in ("text", "media", "key", "url", "license", "timestamp"):
                raise ValueError(
                    f"columns maps text, key, url, license and timestamp, or media, not {name!r}"
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


_NEAR_OF: dict[str, tuple[str, ...]] = {  # what says how texts, images or sounds are compared
    "text": (
        *("like", "shingle", "numbers", "bands", "rows", "threshold"),
        *("max_bucket", "max_document_bytes", "sample"),
    ),
    "image": ("distance", "max_bucket"),
    "audio": ("bands", "rows", "threshold", "max_bucket"),
}
_NEAR_FITTED: dict[str, dict[str, Any]] = {  # chosen by measurement: tests/bench/media.py
    "image": {"distance": 8, "similarity": "perceptual", "sample": 0},
    "audio": {"bands": 60, "rows": 2, "threshold": 0.2, "sample": 0},
}
_BITS = 64  # of a perceptual hash


class Near(Section):
    """Near-duplicates by MinHash, LSH and verified similarity of shingle sets.

    Images are compared by a perceptual hash instead (`distance`), sounds by sets of landmarks
    (`bands`, `rows`, `threshold`); their defaults were chosen by measurement.
    """

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
    similarity: Literal["jaccard", "containment", "perceptual"] = Field(
        "jaccard",
        description="of shingle sets: shared / union, or shared / the smaller set; of images "
        "perceptual: 1 - distance / 64",
    )
    distance: int | None = Field(
        None, ge=0, le=16, description="images: bits of 64 in which perceptual hashes may differ; 8"
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

    def fitted(self, kind: str) -> "Near":
        """Return the section with the defaults of texts, images or sounds.

        Raises:
            ValueError: it sets what means nothing for them.
        """
        fields, own = type(self).model_fields, _NEAR_OF.get(kind, _NEAR_OF["text"])
        fitted = dict(_NEAR_FITTED.get(kind, {}))
        if kind == "image":
            bits = fitted["distance"] if self.distance is None else self.distance
            fitted |= {"distance": bits, "threshold": 1 - bits / _BITS}
        for name in sorted(self.model_fields_set):
            value, usual = getattr(self, name), (fields[name].default, fitted.get(name))
            allowed = (*own, "similarity") if kind == "text" and value != "perceptual" else own
            if name not in allowed and value not in usual:
                raise ValueError(
                    f"deduplicate.near.{name} means nothing for {kind}; what does: {', '.join(own)}"
                )
        changed = {
            name: value
            for name, value in fitted.items()
            if name not in own or name not in self.model_fields_set or getattr(self, name) is None
        }
        return self.model_copy(update=changed)


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


class Pack(Section):
    """Rows of the trainer's context length."""

    row_tokens: int = Field(
        1024, ge=1, le=1 << 20, description="of media: patches or frames; by default those of a row"
    )
    layout: Literal["packed", "stream", "padded", "document"] = Field(
        "packed",
        description="packed: no document that fits a row is cut; stream: end to end; padded: one "
        "document per row, longer ones go on in the next; document: one row each, no more",
    )


def _set(section: Section, name: str, value: Section) -> None:
    """Set a default that only the whole recipe knows, on a section that is frozen from then on."""
    object.__setattr__(section, name, value)


class Recipe(Section):
    """A corpus, from its sources to its training rows."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: Name
    kind: Literal["text", "image", "audio", "pair"] = Field(
        "text", alias="schema", description="what a document is; pair: an image or sound, captioned"
    )
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

    @property
    def media_of(self) -> str:
        """What is decoded: text, image or audio; of a pair what stands beside the caption."""
        if self.kind == "pair":
            return "audio" if self.tokenize.audio is not None else "image"
        return self.kind

    @property
    def media(self) -> dict[str, Any]:
        """What the trainer is told of images, sounds or pairs; {} for text."""
        return media_told(self.kind, self.media_of, self.tokenize)

    @property
    def row_units(self) -> int:
        """Patches, frames or pairs of the longest row; for text the tokens of a row."""
        return units_of(self.media) if self.media else self.pack.row_tokens

    @model_validator(mode="after")
    def _of_its_schema(self) -> "Recipe":
        """Refuse what means nothing for the schema; give media the defaults that fit it."""
        for where, given in self._asked_of_others():
            if given:
                raise ValueError(f"{where} means nothing with schema: {self.kind}; remove it")
        self._fit_duplicates()
        self._check_budgets()
        if self.kind == "text":
            if self.pack.row_tokens < _LEAST_TOKENS:
                short = self.pack.row_tokens
                raise ValueError(
                    f"pack.row_tokens {short} is too short for text; write `pack.row_tokens` of at "
                    f"least {_LEAST_TOKENS}"
                )
            return self
        if self.kind == "pair" and self.tokenize.image and self.tokenize.audio:
            raise ValueError("tokenize.image and tokenize.audio: a pair has one; remove the other")
        said = self.pack.model_fields_set
        layout = self.pack.layout if "layout" in said else "document"
        units = self.pack.row_tokens if "row_tokens" in said else self.row_units
        if layout != "document" and (layout, self.kind) != ("padded", "audio"):
            raise ValueError(
                f"pack.layout {layout} does not go with schema: {self.kind}, whose rows hold one "
                "document each; write document, or of audio padded: a long sound goes on"
            )
        if units > self.row_units and self.kind != "audio":
            raise ValueError(
                f"pack.row_tokens is {units}, and by tokenize a row has {self.row_units} "
                f"{budget_unit(self.media)}; remove it"
            )
        pack = self.pack.model_copy(update={"layout": layout, "row_tokens": units})
        _set(self, "pack", pack)
        return self

    def _fit_duplicates(self) -> None:
        """Compare what documents are made of, and by default keep the largest of media."""
        asked, kind = self.deduplicate, self.media_of
        near = None if asked.near is None else asked.near.fitted(kind)
        keep = asked.keep if "keep" in asked.model_fields_set else _KEEP.get(kind, asked.keep)
        if (near, keep) != (asked.near, asked.keep):
            changed = asked.model_copy(update={"near": near, "keep": keep})
            _set(self, "deduplicate", changed)

    def _check_budgets(self) -> None:
        """Refuse a budget in units that the schema does not have."""
        unit = budget_unit(self.media)
        for portion in self.mix.portions().values():
            counted = unit if portion.budget is None else parse_budget(portion.budget)[1]
            if counted not in (unit, "bytes", "documents"):
                raise ValueError(
                    f"mix.budget counts {counted}, and with schema: {self.kind} it counts {unit}, "
                    f"bytes or documents; found {portion.budget!r}"
                )

    def _asked_of_others(self) -> list[tuple[str, bool]]:
        """Return (place, whether it is asked) of what another schema needs and this one has not."""
        told, of, kind = self.tokenize, self.media_of, self.kind
        media = kind != "text"
        columns = any("media" in (source.columns or {}) for source in self.sources)
        speaks = kind in ("text", "pair")
        return [
            ("tokenize.image", told.image is not None and kind in ("text", "audio")),
            ("tokenize.audio", told.audio is not None and of != "audio"),
            ("tokenize.caption_tokens", told.caption_tokens is not None and kind != "pair"),
            ("tokenize.tokenizer", told.tokenizer != TokenizerSpec() and not speaks),
            ("columns.media of a source", columns and not media),
            ("clean.repeated_lines", self.clean.repeated_lines is not None and media),
            ("decontaminate.against", bool(self.decontaminate.against) and not speaks),
            ("decontaminate.held_out", self.decontaminate.held_out and not speaks),
            ("decontaminate.action cut", self.decontaminate.action == "cut" and media),
        ]

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
