"""The recipe: a corpus as data. YAML in, checked values out; it never executes anything.

Every key that is not understood, or not built yet, is refused with the line it stands on. Relative
paths are relative to the recipe's file.
"""

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from curate.corpus.errors import InputError, did_you_mean

__all__ = [
    "Benchmark",
    "Mix",
    "Near",
    "Recipe",
    "Source",
    "load_recipe",
    "parse_override",
    "parse_recipe",
]

NOT_BUILT = {
    "checks": "data tests",
    "schema": "image, audio and pair corpora",
    "retain": "dropping the raw text",
    "clean.redact": "redaction",
    "clean.repeated_lines": "repeated lines",
    "decontaminate.method.llama3": "the llama3 method",
    "decontaminate.method.decon": "the decon method",
    "mix.phases": "curricula",
    "mix.strategy": "mixture strategies other than weights",
}
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_MAX_SHINGLE_WORDS = 100
_MAX_CHARS = 1_000_000  # YAML is read at some 100 KB/s
_MAX_NODES = 100_000  # a few aliases of aliases make a billion
_MAX_DEPTH = 50
_MAX_TOLD = 2  # problems, one line each


class Section(BaseModel):
    """A mapping of the recipe: unknown keys are errors, values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _shingle_words(value: Any) -> Any:
    match = re.fullmatch(r"\s*(\d+)\s+words\s*", value) if isinstance(value, str) else None
    if not match or not 1 <= int(match[1]) <= _MAX_SHINGLE_WORDS:
        raise ValueError(
            f"write it as '5 words', 1 to {_MAX_SHINGLE_WORDS} (character shingles are not built "
            "yet)"
        )
    return f"{int(match[1])} words"


def parse_tokens(value: str) -> int:
    """Turn '20M tokens' into 20000000.

    Raises:
        ValueError: the text has another form.
    """
    match = re.fullmatch(r"\s*([0-9][0-9_]{0,29}(?:\.[0-9]{1,15})?)\s*([KMBT]?)\s+tokens\s*", value)
    if not match:
        raise ValueError(
            "write a budget as '20M tokens' (K, M, B or T; bytes and documents are not built yet)"
        )
    return math.floor(Decimal(match[1]) * _UNITS[match[2]])


def _budget(value: Any) -> Any:
    if value is not None:
        if not isinstance(value, str):
            raise ValueError("write a budget as '20M tokens'")
        if parse_tokens(value) < 1:
            raise ValueError("a budget is at least 1 token")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Path_ = Annotated[str, Field(min_length=1, max_length=4000)]
Paths = Annotated[list[Path_], BeforeValidator(_as_list), Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Source(Section):
    """One source of documents."""

    name: Name
    paths: Paths = Field(description="files, folders, globs or uris, relative to the recipe")
    format: str | None = Field(None, description="a reader's name; by default from the suffix")
    license: str | None = Field(None, description="SPDX id for documents that state none")
    columns: dict[str, str | list[str] | None] | None = Field(
        None, description="text, key, url, license -> column"
    )
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="CSV delimiter")

    @model_validator(mode="after")
    def _known_columns(self) -> "Source":
        for name in self.columns or {}:
            if name not in ("text", "key", "url", "license"):
                raise ValueError(f"columns maps text, key, url and license, not {name!r}")
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


class Clean(Section):
    """Text revisions, applied to every document."""

    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    control: bool = Field(True, description="remove control characters, unify line ends")


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


class Near(Section):
    """Near-duplicates by MinHash, LSH and verified Jaccard."""

    shingle: Annotated[str, BeforeValidator(_shingle_words)] = "5 words"
    bands: int = Field(14, ge=1, le=512)
    rows: int = Field(8, ge=1, le=64)
    threshold: float = Field(
        0.8, gt=0, le=1, description="exact shingle Jaccard at which two documents are duplicates"
    )
    max_bucket: int = Field(
        1000, ge=2, description="pairs inside larger LSH buckets are limited to hubs and neighbours"
    )

    @property
    def shingle_words(self) -> int:
        """Words in a shingle."""
        return int(self.shingle.split()[0])


class Guardrails(Section):
    """Stop the run instead of deleting half a corpus; null switches one off."""

    source_loss: Share | None = 0.5
    cluster_size: int | None = 10_000
    verified_share: Share | None = 0.1


class Deduplicate(Section):
    """Which documents say the same."""

    exact: bool = True
    near: Near | None = Field(default_factory=Near)
    keep: str = Field("num_words DESC, doc_id", description="ORDER BY over signals: who survives")
    guardrails: Guardrails = Field(default_factory=Guardrails)


class Benchmark(Section):
    """A test set the corpus must not contain."""

    name: Name
    paths: Paths
    columns: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)] = Field(
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


class Split(Section):
    """Shares held out, by duplicate cluster."""

    validation: Share = 0.01
    test: Share = 0.01


class TokenizerSpec(Section):
    """Train a tokenizer on the sources, or bring a tokenizer.json."""

    train: Literal["bpe"] | None = None
    vocab_size: int = Field(8192, ge=300, le=1_000_000)
    sample_bytes: int = Field(16_000_000, ge=10_000, description="text it is trained on")
    path: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "TokenizerSpec":
        if self.train and self.path:
            raise ValueError("give either 'train' or 'path', not both")
        return self


class Tokenize(Section):
    """From text to tokens."""

    tokenizer: TokenizerSpec = Field(default_factory=TokenizerSpec)


class Mix(Section):
    """How much of each source the model sees."""

    budget: Annotated[str | None, BeforeValidator(_budget)] = Field(
        None, description="such as '20M tokens'"
    )
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    repeat_cap: float = Field(4, ge=1, le=1000, description="most epochs over a source")

    @property
    def budget_tokens(self) -> int | None:
        """The budget as a number."""
        return None if self.budget is None else parse_tokens(self.budget)


class Pack(Section):
    """Rows of the trainer's context length."""

    row_tokens: int = Field(1024, ge=8, le=1 << 20)


class Recipe(Section):
    """A corpus, from its sources to its training rows."""

    name: Name
    seed: int = Field(0, ge=0, lt=2**63)
    sources: list[Source] = Field(min_length=1)
    collect: Collect = Field(default_factory=Collect)
    clean: Clean = Field(default_factory=Clean)
    rules: Rules = Field(default_factory=Rules)
    deduplicate: Deduplicate = Field(default_factory=Deduplicate)
    decontaminate: Decontaminate = Field(default_factory=Decontaminate)
    split: Split = Field(default_factory=Split)
    tokenize: Tokenize = Field(default_factory=Tokenize)
    mix: Mix = Field(default_factory=Mix)
    pack: Pack = Field(default_factory=Pack)

    _base: str = "."
    _limit: int | None = None

    @property
    def base(self) -> str:
        """The folder relative paths start from."""
        return self._base

    @property
    def limit(self) -> int | None:
        """Records read of each source, None for all."""
        return self._limit

    @model_validator(mode="after")
    def _names_agree(self) -> "Recipe":
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are called {name!r}")
        for where, used in (
            ("mix.weights", self.mix.weights or {}),
            ("rules.exempt", self.rules.exempt),
        ):
            for name in used:
                if name not in names:
                    raise ValueError(
                        f"{where} names the source {name!r}; sources are: "
                        f"{', '.join(names)}.{did_you_mean(name, names)}"
                    )
        if self.mix.weights is not None and not any(self.mix.weights.values()):
            raise ValueError("mix.weights are all zero; give at least one source a weight above 0")
        benchmarks = [b.name for b in self.decontaminate.against]
        if len(set(benchmarks)) < len(benchmarks):
            raise ValueError("two benchmarks in decontaminate.against have the same name")
        if self.split.validation + self.split.test >= 1:
            raise ValueError("split.validation + split.test leave nothing to train on")
        return self


def load_recipe(
    path: str | Path, overrides: Mapping[str, Any] | None = None, limit: int | None = None
) -> Recipe:
    """Read and check a recipe file.

    Args:
        path: a YAML file.
        overrides: dotted path -> value, as given by `--set`.
        limit: read at most this many records of each source.

    Raises:
        InputError: what is wrong, on which line, and what was meant.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file; name the recipe, such as {path / 'recipe.yaml'}")
        with path.open(encoding="utf-8-sig") as stream:
            text = stream.read(_MAX_CHARS + 1)
    except InputError:
        raise
    except FileNotFoundError:
        near = (
            did_you_mean(path.name, [p.name for p in path.parent.glob("*.y*ml")])
            if path.parent.is_dir()
            else ""
        )
        hint = near or " `preceptor init FOLDER` writes a first one."
        raise InputError(f"there is no recipe {path}.{hint}") from None
    except OSError as error:
        raise InputError(f"cannot read the recipe {path}: {error.strerror or error}") from None
    except ValueError as error:  # not UTF-8, or a name that cannot be one
        raise InputError(f"cannot read the recipe {_short(str(path))}: {error}") from None
    return parse_recipe(
        text, base=str(path.absolute().parent), where=str(path), overrides=overrides, limit=limit
    )


def parse_recipe(
    text: str,
    *,
    base: str = ".",
    where: str = "recipe",
    overrides: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> Recipe:
    """Check a recipe given as YAML text; see `load_recipe`."""
    node, data = _read_yaml(text, where)
    if not isinstance(data, dict):
        raise InputError(f"{where}: a recipe is a mapping with at least `name` and `sources`")
    for dotted, value in (overrides or {}).items():
        _set(data, dotted, value)
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise InputError(_explain(error, node, where)) from None
    recipe._base, recipe._limit = base, limit
    return recipe


def _read_yaml(text: str, where: str) -> tuple[Any, Any]:
    """Return the tree of nodes, which know their lines, and the plain data it stands for."""
    if len(text) > _MAX_CHARS:
        raise InputError(
            f"{where}: {len(text):,} characters are too many for a recipe (limit {_MAX_CHARS:,}); "
            "name files by patterns, and rules in presets"
        )
    loader: Any = None
    try:
        loader = yaml.SafeLoader(text)  # looks for characters that no YAML may hold
        node = loader.get_single_node()
        _check_nodes(node, where)
        data = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        told = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise InputError(f"{where}{at}: not valid YAML: {told}") from None
    except InputError:
        raise
    except ValueError as error:  # a date or number that looks like one but is none
        raise InputError(f"{where}: not valid YAML: {error}; put it in quotes") from None
    except RecursionError:
        raise InputError(
            f"{where}: nested too deeply for a recipe (limit {_MAX_DEPTH} levels)"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()
    return node, data


def parse_override(text: str) -> tuple[str, Any]:
    """Return (dotted path, value) of `path.to.key=value`, the value read as YAML.

    >>> parse_override("rules.add.long=num_words >= 50")
    ('rules.add.long', 'num_words >= 50')

    Raises:
        InputError: no `=`, an empty step in the path, or a value that is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"--set wants path.to.key=value, got {_short(text)}")
    return key, _read_yaml(value, f"--set {_short(key)}")[1]


def _set(data: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for key in path:
        child = data.setdefault(key, {})
        if not isinstance(child, dict):
            raise InputError(f"--set {dotted}: {key!r} is not a mapping in this recipe")
        data = child
    data[last] = value


def _check_nodes(node: Any, where: str) -> None:
    """Refuse repeated keys, and what aliases blow up or tie into a knot."""
    count = 0
    stack = [(node, 0)]
    while stack:
        part, depth = stack.pop()
        count += 1
        if depth > _MAX_DEPTH:  # a node that holds itself has no bottom either
            raise InputError(
                f"{where}:{part.start_mark.line + 1}: nested too deeply for a recipe (limit "
                f"{_MAX_DEPTH} levels)"
            )
        if count > _MAX_NODES:
            raise InputError(
                f"{where}: more than {_MAX_NODES:,} values, aliases followed; a recipe is far "
                "smaller"
            )
        if isinstance(part, yaml.SequenceNode):
            stack += [(item, depth + 1) for item in part.value]
        elif isinstance(part, yaml.MappingNode):
            _refuse_repeated_keys(part, where)
            stack += [(child, depth + 1) for pair in part.value for child in pair]


def _refuse_repeated_keys(node: Any, where: str) -> None:
    seen = set()
    for key, _ in node.value:
        at = f"{where}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"{at}: a list or mapping cannot be a key; keys are words")
        if key.value in seen:
            raise InputError(f"{at}: the key {key.value!r} is given twice")
        seen.add(key.value)


def _line(node: Any, path: tuple[Any, ...]) -> int:
    """Return the line (from 1) on which the deepest part of `path` that exists stands."""
    line = 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value)
        ):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _explain(error: ValidationError, node: Any, where: str) -> str:
    lines = []
    problems = error.errors(include_url=False)
    for problem in problems[:_MAX_TOLD]:
        path = tuple(step for step in problem["loc"] if step != "[key]")
        dotted = ".".join(map(str, path))
        at = f"{where}:{_line(node, path)}"
        if problem["type"] == "extra_forbidden":
            pattern = ".".join(str(step) for step in path if not isinstance(step, int))
            if pattern in NOT_BUILT:
                lines.append(f"{at}: `{dotted}` ({NOT_BUILT[pattern]}) is not built yet; remove it")
                continue
            known = list(_keys(path[:-1]))
            lines.append(
                f"{at}: unknown key `{dotted}`; known here: "
                f"{', '.join(known)}.{did_you_mean(str(path[-1]), known)}"
            )
        elif problem["type"] == "missing":
            lines.append(f"{at}: `{dotted}` is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            message = re.sub(r"a valid dictionary or instance of \w+", "a mapping", message)
            message = re.sub(r"^(?:Input|String|Value|List) should", "it should", message)
            if not path:  # the message itself begins with the place it is about
                at = f"{where}:{_line(node, tuple(message.partition(' ')[0].split('.')))}"
            found = (
                ""
                if problem["type"] == "value_error" and not path
                else f", found {_short(problem['input'])}"
            )
            lines.append(f"{at}: {f'`{dotted}`: ' if dotted else ''}{message}{found}")
    if len(problems) > _MAX_TOLD:
        lines[-1] += f" (and {len(problems) - _MAX_TOLD} more)"
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys(path: tuple[Any, ...]) -> Iterator[str]:
    """Yield the keys the section at `path` knows."""
    model: Any = Recipe
    for step in path:
        if isinstance(step, int) or model is None:
            continue
        annotation = model.model_fields[step].annotation if step in model.model_fields else None
        model = next((m for m in _models(annotation)), None)
    if model is not None:
        yield from model.model_fields


def _models(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)
