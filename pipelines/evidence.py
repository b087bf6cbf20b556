"""The sections of a recipe that decide about documents: clean, measure, rules, decontaminate."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipelines.section import Name, Paths, Section, Share, as_list

__all__ = ["Benchmark", "Clean", "Decontaminate", "Measure", "Rules"]


class RepeatedLines(Section):
    """Lines that stand in many documents, cut from all when they are tokenized or exported.

    A document of such lines alone stays, as an empty text; `documents_emptied` counts them.
    """

    above: int = Field(
        10, ge=1, description="documents, duplicates counting once, in which a line may stand"
    )
    min_characters: int = Field(
        20, ge=1, description="letters and digits; lines with fewer are never cut"
    )
    numbers: Literal["keep", "zero"] = Field(
        "keep", description="zero: lines that differ in their numbers only are the same"
    )
    exempt: list[str] = Field(default_factory=list, description="sources that lose no lines")
    source_loss: Share | None = Field(
        0.5, description="stop when a source would lose more of its text; null: never"
    )


class Clean(Section):
    """Text revisions, applied to every document."""

    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    control: bool = Field(True, description="remove control characters, unify line ends")
    repeated_lines: RepeatedLines | None = Field(
        None, description="boilerplate that many documents share; null: none is looked for"
    )

    @property
    def revisions(self) -> dict[str, Any]:
        """What the pass `clean` does: all but the repeated lines, which need the whole corpus."""
        return self.model_dump(mode="json", exclude={"repeated_lines"})


class Measure(Section):
    """Which signals are measured besides those that every run measures."""

    families: list[str] = Field(
        default_factory=list, description="families of signals that no rule asks for"
    )


class Rules(Section):
    """What a document must satisfy to be kept."""

    use: list[str] = Field(default_factory=list, description="presets")
    add: dict[Name, str] = Field(
        default_factory=dict, description="name -> KEEP predicate in SQL over signals"
    )
    exempt: dict[str, list[str]] = Field(
        default_factory=dict, description="source -> presets or rules it need not satisfy"
    )
    on_null: Literal["keep", "drop", "refuse"] = "refuse"


class Benchmark(Section):
    """A test set the corpus must not contain."""

    name: Name
    paths: Paths
    columns: Annotated[list[str], BeforeValidator(as_list), Field(min_length=1)] = Field(
        default_factory=lambda: ["text"]
    )
    format: str | None = None
    delimiter: str | None = Field(None, min_length=1, max_length=1)


class Ngram(Section):
    """Word n-gram overlap with an item."""

    words: int = Field(13, ge=3, le=64)
    overlap: float = Field(
        0.5, gt=0, le=1, description="share of the item's n-grams found in the document"
    )


class Method(Section):
    """How contamination is recognised."""

    ngram: Ngram = Field(default_factory=Ngram)


class Decontaminate(Section):
    """Against which test sets, how, and what to do."""

    against: list[Benchmark] = Field(default_factory=list)
    method: Method = Field(default_factory=Method)
    action: Literal["drop", "mark"] = "drop"
