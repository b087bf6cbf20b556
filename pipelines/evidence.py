"""The sections of a recipe that decide about documents: clean, measure, rules, decontaminate."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from curate.rules.canaries import canary_text
from pipelines.section import LISTED, Name, Path_, Paths, Section, Share, as_list

__all__ = ["HELD_OUT", "Benchmark", "Canaries", "Clean", "Decontaminate", "Measure", "Rules"]


HELD_OUT = "held_out"  # the benchmark that earlier versions' validation and test documents make

SignalName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
_FUNCTION = r"^[A-Za-z_][A-Za-z0-9_.]{0,200}:[A-Za-z_][A-Za-z0-9_]{0,100}$"


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


def _switch(value: Any) -> Any:
    return {} if value is True else None if value is False or value == [] else value


def _switched(section: Any) -> Any:
    """Return what lets a section be written as true or false."""
    return BeforeValidator(_switch, json_schema_input_type=section | bool | None)


def _listed(name: str, section: Any) -> Any:
    """Return what lets a section be written as the list that is its main value."""

    def widen(value: Any) -> Any:
        value = _switch(value)
        return {name: as_list(value)} if isinstance(value, list | str) else value

    given = section | list[str] | str | bool | None
    return BeforeValidator(widen, json_schema_input_type=given)


_EXEMPT: Any = Field(default_factory=list, description="sources whose texts this step leaves alone")


class Whitespace(Section):
    """Blanks: runs become one, line ends lose theirs, blank lines stand alone."""

    exempt: list[str] = _EXEMPT


class Redact(Section):
    """What identifies a person or opens a door becomes a placeholder."""

    kinds: Annotated[
        list[Literal["email", "ip", "phone", "card", "iban", "secret"]], Field(min_length=1)
    ]
    placeholders: Literal["numbered", "datatrove", "dolma"] = Field(
        "numbered", description="numbered: the same thing in a document is the same <EMAIL_1>"
    )
    exempt: list[str] = _EXEMPT


class Lines(Section):
    """Lines that C4 or RefinedWeb remove."""

    rules: Annotated[
        list[Literal["c4", "c4@tfds", "c4@datatrove", "c4@dolma", "refinedweb", "refinedweb@dclm"]],
        Field(min_length=1),
    ]
    exempt: list[str] = _EXEMPT


class Truncate(Section):
    """Longer texts end at a boundary."""

    max_characters: int | None = Field(None, ge=1)
    max_bytes: int | None = Field(None, ge=1, description="of UTF-8; give one of the two limits")
    at: Literal["paragraph", "line", "word"] = "word"
    exempt: list[str] = _EXEMPT

    @model_validator(mode="after")
    def _one_limit(self) -> "Truncate":
        if (self.max_characters is None) == (self.max_bytes is None):
            raise ValueError("give either max_characters or max_bytes")
        return self


class Clean(Section):
    """Text revisions, applied to every document in this order."""

    ftfy: bool = Field(False, description="repair text that was decoded with a wrong encoding")
    control: bool = Field(True, description="remove control characters, unify line ends")
    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    lines: Annotated[Lines | None, _listed("rules", Lines)] = Field(
        None, description="remove lines: a list of c4, c4@datatrove, c4@dolma, refinedweb"
    )
    whitespace: Annotated[Whitespace | None, _switched(Whitespace)] = Field(
        None, description="tidy blanks: true, or a mapping with `exempt`"
    )
    redact: Annotated[Redact | None, _listed("kinds", Redact)] = Field(
        None, description="replace personal data: a list of email, ip, phone, card, iban, secret"
    )
    truncate: Annotated[Truncate | None, _switched(Truncate)] = Field(
        None, description="cut long texts: {max_characters: N, at: paragraph}"
    )
    repeated_lines: RepeatedLines | None = Field(
        None, description="boilerplate that many documents share; null: none is looked for"
    )

    @property
    def revisions(self) -> dict[str, Any]:
        """What the pass `clean` does: all but the repeated lines, which need the whole corpus."""
        from curate.cleaning.clean import parse_settings

        return parse_settings(self.model_dump(mode="json", exclude={"repeated_lines"}))

    @property
    def exempt(self) -> dict[str, list[str]]:
        """Where the recipe names sources that a step leaves alone -> those names."""
        steps = ("lines", "whitespace", "redact", "truncate", "repeated_lines")
        named = {f"clean.{step}.exempt": getattr(self, step) for step in steps}
        return {where: list(step.exempt) for where, step in named.items() if step is not None}


class WordList(Section):
    """Words and phrases whose matches are counted; files hold one a line."""

    words: Annotated[list[str], LISTED] = Field(
        default_factory=list, description="words and phrases"
    )
    paths: Annotated[list[Path_], LISTED] = Field(
        default_factory=list, description="UTF-8 text files, relative to the recipe"
    )

    @model_validator(mode="after")
    def _something(self) -> "WordList":
        if not self.words and not self.paths:
            raise ValueError("a word list has `words`, or `paths` of files with one a line")
        return self


class ReferenceSet(Section):
    """Texts that others are compared with, read like a source."""

    paths: Paths = Field(description="files, folders, globs or uris, relative to the recipe")
    format: str | None = Field(None, description="a reader's name; by default from the suffix")
    columns: Annotated[list[str], LISTED, Field(min_length=1)] = Field(
        default_factory=lambda: ["text"]
    )


def _kind_of_text(value: Any) -> str:
    """Return which of the two a value is meant for; an error tells no step called [key]."""
    return "corpus" if isinstance(value, str) else "[key]"


class Perplexity(Section):
    """A word n-gram model of the corpus itself, or of a reference set."""

    against: Annotated[
        Annotated[Literal["corpus"], Tag("corpus")] | Annotated[ReferenceSet, Tag("[key]")],
        Discriminator(_kind_of_text),
    ] = Field("corpus", description="corpus: each half is measured by a model of the other one")
    order: int = Field(3, ge=1, le=5, description="words of the longest n-grams")
    bits: int = Field(22, ge=10, le=24, description="2^bits counters for each length")


class Imported(Section):
    """Numbers of another tool: the file of `preceptor import`, and what is taken from it."""

    path: Path_ = Field(description="an Arrow file, relative to the recipe")
    signals: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,99}$")],
            Literal["number", "integer", "flag", "text"],
        ],
        Field(min_length=1, description="signal -> its kind"),
    ]
    stale: Literal["refuse", "leave_out"] = Field(
        "refuse", description="what becomes of numbers whose text has changed since"
    )


class Measure(Section):
    """Which signals are measured besides those that every run measures."""

    families: list[str] = Field(
        default_factory=list, description="families of signals that no rule asks for"
    )
    word_lists: dict[SignalName, WordList] = Field(
        default_factory=dict, description="name -> words; gives words_<name>, matches per thousand"
    )
    perplexity: Perplexity | None = Field(None, description="gives perplexity")
    importance: dict[SignalName, ReferenceSet] = Field(
        default_factory=dict, description="name -> texts to resemble; gives importance_<name>"
    )
    classifiers: dict[SignalName, Path_] = Field(
        default_factory=dict,
        description="name -> file of `preceptor classify`; gives classifier_<name>",
    )
    imported: dict[SignalName, Imported] = Field(
        default_factory=dict, description="name -> numbers of `preceptor import`"
    )
    functions: dict[SignalName, Annotated[str, Field(pattern=_FUNCTION)]] = Field(
        default_factory=dict,
        description="signal -> package.module:function, allowed by --allow on the command line",
    )

    @property
    def asked(self) -> dict[str, Any]:
        """What `curate.signals.registry` wants to know: the section as data."""
        return self.model_dump(mode="json")


def _canary(value: Any) -> Any:
    return None if value is None else canary_text(value)


_CANARY = BeforeValidator(_canary, json_schema_input_type=str | dict[str, Any] | list[Any])


class Canaries(Section):
    """Texts that show a rule at work: `TEXT`, `{repeat: TEXT, times: N}`, or a list of those."""

    catch: Annotated[str, _CANARY] | None = None
    spare: Annotated[str, _CANARY] | None = None


class Rules(Section):
    """What a document must satisfy to be kept."""

    use: list[str] = Field(default_factory=list, description="presets")
    add: dict[Name, str] = Field(
        default_factory=dict, description="name -> KEEP predicate in SQL over signals"
    )
    exempt: dict[str, list[str]] = Field(
        default_factory=dict, description="source -> presets or rules it need not satisfy"
    )
    override: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="source -> rule -> the KEEP predicate its documents must satisfy instead",
    )
    canaries: dict[str, Canaries] = Field(
        default_factory=dict, description="rule -> a text it must catch, a text it must spare"
    )
    on_null: Literal["keep", "drop", "refuse"] = "refuse"


class Benchmark(Section):
    """A test set the corpus must not contain."""

    name: Name
    paths: Paths
    columns: Annotated[list[str], LISTED, Field(min_length=1)] = Field(
        default_factory=lambda: ["text"],
        description="columns whose texts make an item, or a mapping {question: ..., answer: ..., "
        "passage: ...}; a passage alone is no evidence",
    )
    parts: dict[Literal["question", "answer", "passage"], list[str]] | None = Field(
        None, description="what a mapping in `columns` says; write it there"
    )
    format: str | None = None
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    action: Literal["drop", "cut", "mark"] | None = Field(
        None, description="for this benchmark; by default the one of `decontaminate`"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_parts(cls, data: Any) -> Any:
        """Turn `columns: {question: q}` into the columns that are read and what they mean."""
        if not isinstance(data, dict) or not isinstance(data.get("columns"), dict):
            return data
        parts = {name: as_list(columns) for name, columns in data["columns"].items()}
        for name, columns in parts.items():
            if not isinstance(columns, list) or not all(isinstance(one, str) for one in columns):
                raise ValueError(f"columns.{name} is a column or a list of them, got {columns!r}")
        if "question" not in parts:
            raise ValueError(
                "columns maps question, answer and passage to columns; question is missing"
            )
        names = dict.fromkeys(one for columns in parts.values() for one in columns)
        return {**data, "columns": list(names), "parts": parts}


class Ngram(Section):
    """Word n-gram overlap with an item."""

    words: int = Field(13, ge=3, le=64)
    overlap: float = Field(
        0.5, gt=0, le=1, description="share of the item's n-grams found in the document"
    )


class Llama3(Section):
    """Share of an item's words that are covered by n-grams found in the document."""

    words: int = Field(8, ge=3, le=64)
    coverage: float = Field(0.3, gt=0, le=1, description="share of the item's words covered")
    perfect: int = Field(10, ge=1, description="items of so many words have to be covered whole")
    relaxed: int = Field(30, ge=1, description="from so many words on, `coverage` is enough")

    @model_validator(mode="after")
    def _ordered(self) -> "Llama3":
        _check_lengths(self)
        return self


class Decon(Section):
    """AI2's decon: clusters of short n-grams, weighted by how rare they are."""

    words: int = Field(5, ge=3, le=64)
    sample: int = Field(1, ge=1, description="every so many words begin a search; decon has 10")
    misses: int = Field(11, ge=1, description="n-grams in a row that end a cluster")
    score: float = Field(0.8, gt=0, le=1, description="question, answer and passage, weighted")
    perfect: int = Field(20, ge=1, description="items of so many words need a perfect match")
    relaxed: int = Field(50, ge=1, description="from so many words on, `score` is enough")

    @model_validator(mode="after")
    def _ordered(self) -> "Decon":
        _check_lengths(self)
        return self


def _check_lengths(method: Llama3 | Decon) -> None:
    if method.relaxed < method.perfect:
        raise ValueError(f"relaxed ({method.relaxed}) is below perfect ({method.perfect})")


class Method(Section):
    """How contamination is recognised: by each of the methods named, `ngram` if none is."""

    ngram: Ngram | None = None
    llama3: Llama3 | None = None
    decon: Decon | None = None

    @model_validator(mode="before")
    @classmethod
    def _some_method(cls, data: Any) -> Any:
        if isinstance(data, dict) and not any(value is not None for value in data.values()):
            return {**data, "ngram": {}}
        return data


class EvidenceGuards(Section):
    """What is no evidence, whatever the method; what that silences is counted and told."""

    min_words: int = Field(5, ge=1, description="shortest item that is matched whole")
    min_chars: int = Field(25, ge=1, description="the same, in characters")
    max_items: int = Field(
        10, ge=1, description="an n-gram of more items of a benchmark is its template"
    )
    max_documents: int = Field(
        100, ge=1, description="an n-gram in more documents of the corpus than this ..."
    )
    max_share: Share = Field(
        0.001, description="... and than this share of them is common; 1: none is"
    )


class Decontaminate(Section):
    """Against which test sets, how, and what to do."""

    against: list[Benchmark] = Field(default_factory=list)
    method: Method = Field(default_factory=lambda: Method.model_validate({}))
    guards: EvidenceGuards = Field(default_factory=EvidenceGuards)
    action: Literal["drop", "cut", "mark"] = Field(
        "drop", description="cut: the item's span is not tokenized; mark: only told"
    )
    held_out: bool = Field(
        False,
        description="documents that earlier versions held out for validation and test are one more "
        "benchmark; every document is matched again whenever they change",
    )

    @model_validator(mode="after")
    def _own_name(self) -> "Decontaminate":
        if self.held_out and any(one.name == HELD_OUT for one in self.against):
            raise ValueError(f"against: {HELD_OUT!r} is the name of the held-out documents")
        return self
