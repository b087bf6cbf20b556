"""The recipe: a corpus as data. YAML in, checked values out; it never executes anything.

Every key that is not understood, or not built yet, is refused with the line it stands on. Relative
paths are relative to the recipe's file.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from curate.corpus.errors import InputError, did_you_mean
from pipelines.sections import Recipe

__all__ = ["Recipe", "load_recipe", "parse_override", "parse_recipe", "read_yaml"]

NOT_BUILT = {
    "retain": "dropping the raw text",
}
_MAX_CHARS = 1_000_000  # YAML is read at some 100 KB/s
_MAX_NODES = 100_000  # a few aliases of aliases make a billion
_MAX_DEPTH = 50
_MAX_TOLD = 2  # problems, one line each


def load_recipe(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    limit: int | None = None,
    allow: Collection[str] = (),
) -> Recipe:
    """Read and check a recipe file.

    Args:
        path: a YAML file.
        overrides: dotted path -> value, as given by `--set`.
        limit: read at most this many records of each source.
        allow: functions, `package.module:function`, that it may name as signals.

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
        text,
        base=str(path.absolute().parent),
        where=str(path),
        overrides=overrides,
        limit=limit,
        allow=allow,
    )


def parse_recipe(
    text: str,
    *,
    base: str = ".",
    where: str = "recipe",
    overrides: Mapping[str, Any] | None = None,
    limit: int | None = None,
    allow: Collection[str] = (),
) -> Recipe:
    """Check a recipe given as YAML text; see `load_recipe`."""
    node, data = read_yaml(text, where)
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
    recipe._base, recipe._limit, recipe._allowed = base, limit, frozenset(allow)
    return recipe


def read_yaml(text: str, where: str) -> tuple[Any, Any]:
    """Return the tree of nodes, which know their lines, and the plain data it stands for."""
    if len(text) > _MAX_CHARS:
        raise InputError(
            f"{where}: {len(text):,} characters are too many (limit {_MAX_CHARS:,}); "
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
        raise InputError(f"{where}: nested too deeply (limit {_MAX_DEPTH} levels)") from None
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
    return key, read_yaml(value, f"--set {_short(key)}")[1]


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
                f"{where}:{part.start_mark.line + 1}: nested too deeply (limit {_MAX_DEPTH} levels)"
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
    named = False  # the next step is a name that the person chose
    for step in path:
        if isinstance(step, int) or model is None or named:
            named = False
            continue
        annotation = model.model_fields[step].annotation if step in model.model_fields else None
        model = next((m for m in _models(annotation)), None)
        named = get_origin(annotation) is dict
    if model is not None:
        yield from (field.alias or name for name, field in model.model_fields.items())


def _models(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)
