"""What is left of a file of metrics after an accident: every whole line, and a word of the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["whole_lines"]


def whole_lines(file: Path, step: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a JSONL file's lines up to `step`.

    A last line that is cut is what a kill leaves. Other damage is said, and the file as it was is
    put aside.
    """
    if not step:
        return []
    if not file.exists():
        say(f"{file} is gone: what it told up to step {step} is lost")
        return []
    texts = file.read_bytes().splitlines()
    lines = [_line(text) for text in texts]
    broken = [number for number, line in enumerate(lines[:-1], 1) if line is None]
    if broken:
        aside = file.with_name(f"{file.name}.damaged")
        aside.write_bytes(b"\n".join(texts) + b"\n")
        say(
            f"{file}: line {broken[0]} is damaged ({len(broken)} in all); the others stay, and the "
            f"file as it was is {aside.name}"
        )
    return [line for line in lines if line is not None and line["step"] <= step]


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        line: Any = json.loads(text)
    except ValueError:
        return None
    whole = isinstance(line, dict) and isinstance(line.get("step"), int)
    return line if whole else None
