"""Every pretext task against its honest check: `make bench-objectives`.

A family's file (text.py, sentences.py, ...) has `CHECKS`: objective -> a function from `Asked` to
rows of the table. Each check trains through the real trainer, on data of ../shared/data, and the
table is printed whatever comes out. The exit status is 1 when a row without a star misses what it
promises, or a check raises. Writes .bench/objectives.md and .bench/objectives.json.

    python tests/bench/objectives/run.py [--only NAME ...] [--quick | --full] [--seed N]
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from table import ROOT, Asked, Row, failed, markdown, pages, shown  # noqa: E402

FAMILIES = ("text", "sentences", "pairs", "images", "views", "audio")
Check = Callable[[Asked], list[Row]]


def checks() -> dict[str, Check]:
    """Return the checks of all families that are there, by objective."""
    found: dict[str, Check] = {}
    for family in FAMILIES:
        if (HERE / f"{family}.py").is_file():
            try:
                found |= importlib.import_module(family).CHECKS
            except Exception as error:
                found[family] = partial(_broken, error)
    return found


def _broken(error: Exception, _: Asked) -> list[Row]:
    raise error


def measured(name: str, check: Check, asked: Asked) -> list[Row]:
    """Return a check's rows; one that raises is told, and its one row has missed."""
    begin = time.perf_counter()
    print(f"{name} ...", flush=True)
    try:
        rows = list(check(asked))
    except Exception as error:
        traceback.print_exc()
        note = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        rows = [Row(objective=name, what="the check raised", ours=None, passed=False, note=note)]
    print(f"{name}: {time.perf_counter() - begin:.0f} s\n{shown(rows)}\n", flush=True)
    return rows


def page(rows: list[Row], command: str, seconds: float) -> str:
    """Return the whole page."""
    bad = failed(rows)
    return "\n\n".join(
        [
            "# Pretext tasks against their checks: measured",
            f"Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}, in {seconds / 60:.1f} "
            f"minutes. {pages.machine()}. A difference is ours less the control's, with its "
            "standard error; a starred row may miss what it promises.",
            markdown(rows),
            f"{len(bad)} of {sum(row.passed is not None for row in rows)} rows MISSED"
            + (": " + "; ".join(f"{row.objective}, {row.what}" for row in bad) if bad else "."),
        ]
    )


def main() -> int:
    """Run the checks that are asked for; return the exit status."""
    found = checks()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(found))
    parser.add_argument("--quick", action="store_true", help="about a minute for each")
    parser.add_argument("--full", action="store_true", help="more seeds and label draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    given = parser.parse_args()
    if not given.data.is_dir():
        raise SystemExit(
            f"there is no folder {given.data}; say with --data where the data sets are"
        )
    asked = Asked(
        data=given.data,
        quick=given.quick,
        full=given.full,
        seed=given.seed,
        threads=given.threads,
    )
    import torch

    torch.set_num_threads(given.threads)
    asked.work.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    rows: list[Row] = []
    for name in given.only or found:
        rows += measured(name, found[name], asked)
    command = " ".join(["python tests/bench/objectives/run.py", *sys.argv[1:]])
    bench = ROOT / ".bench"
    written = page(rows, command, time.perf_counter() - begin)
    (bench / "objectives.md").write_text(written + "\n", encoding="utf-8")
    content = [asdict(row) for row in rows]
    plain = json.dumps(content, indent=1, default=lambda value: value.item())  # numpy's scalars
    (bench / "objectives.json").write_text(plain)
    print(shown(rows))
    bad = failed(rows)
    print(f"\n{len(bad)} rows missed what they promise; {bench / 'objectives.md'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
