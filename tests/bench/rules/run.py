"""Golden decisions: the reference implementation of each preset and ours, over real documents.

`make bench-rules` installs the references under .bench/venvs, takes some thousand documents from
the shared data (`documents.py`), lets the reference and our preset judge each of them rule by rule,
prints who disagrees where, and writes RESULTS.md. `--record` also writes the reference's decisions
on a fixed sample to tests/curate/golden/, which the test suite compares with ours: ids and
decisions only, never a text.

A reference is one file in peers/, found by walking that folder. At its top it imports the standard
library only, because it is read here and run elsewhere, and says

    PACKAGE = "datatrove"                  # whose version the results name
    REQUIREMENTS = ("datatrove==0.10.1",)  # for pip; () runs it in this environment (slow twins)
    PRESETS = ("c4@datatrove",)            # which of our presets it is the reference of
    EXPLAINED = {("c4@datatrove", "rule"): "why the two may differ"}    # may be left out

and one function, called in an environment with the requirements and the standard library:

    def judge(preset: str) -> Callable[[str], dict[str, bool | None]]

It loads what it needs and returns the function that judges one text: rule -> True (kept), False
(dropped) or None (the reference fails on this text). Rules are named as in our preset and judged
each by itself, as if it were the only one; the rule `*` is the reference's own verdict on the whole
(with its order, its short cuts and what its filters do to the text in between). The functions of
all its presets are called on one text before the next text, so that a cache of one text helps.

    python tests/bench/rules/run.py [--only PEER ...] [--documents N] [--record]
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent / "dedup"))

import documents  # noqa: E402
import ours  # noqa: E402
from environments import Environment, Made, ensure  # noqa: E402

from curate.rules.preset import load_preset  # noqa: E402

GOLDEN = ROOT / "tests" / "curate" / "golden"
DOCUMENTS, GOLDEN_DOCUMENTS = 5_200, 300
SHOWN = 5
CHECKS = {"datatrove_filters": "splitter.py"}  # peer -> a script that compares parts with it


@dataclass(kw_only=True)
class Comparison:
    """One preset against its reference.

    Attributes:
        reference: package and version, or why there is none.
        rules: rule -> (dropped by the reference, dropped by ours, disagreements, no answer).
        differ: rule -> ids of the documents they disagree on.
        mb_s: MB of text per CPU second, the reference's and ours.
    """

    preset: str
    reference: str
    rules: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    differ: dict[str, list[str]] = field(default_factory=dict)
    mb_s: tuple[float, float] = (0.0, 0.0)


def peers() -> dict[str, Any]:
    """Return the modules of peers/ by name."""
    found = {}
    for path in sorted((HERE / "peers").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if hasattr(module, "PRESETS"):
            found[path.stem] = module
    return found


def environment(peer: Any, home: Path) -> Made:
    """Return the Python that runs a peer: an environment of its own, or this one."""
    if not peer.REQUIREMENTS:
        return Made(python=Path(sys.executable), version="")
    asked = Environment(
        name=peer.PACKAGE.lower(),
        package=peer.PACKAGE,
        requirements=tuple(peer.REQUIREMENTS),
        python=getattr(peer, "PYTHON", None),
    )
    return ensure(asked, home / "venvs")


def references(name: str, made: Made, home: Path, chosen: Sequence[tuple[str, str]]) -> Any:
    """Return what judge.py wrote for a peer; it is kept as long as nothing has changed."""
    source = home / "rules" / "documents.jsonl"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in chosen))
    digest = blake2b(digest_size=8)
    for part in (source, HERE / "judge.py", HERE / "peers" / f"{name}.py"):
        digest.update(part.read_bytes())
    digest.update(made.version.encode())
    out = home / "rules" / f"{name}-{digest.hexdigest()}.json"
    if not out.exists():
        print(f"{name} judges {len(chosen):,} documents ...", flush=True)
        command = [str(made.python), str(HERE / "judge.py"), name, str(source), str(out)]
        subprocess.run(command, check=True, cwd=out.parent)
    return json.loads(out.read_text())


def compare(
    preset: str, reference: str, found: Mapping[str, Any], chosen: Sequence[tuple[str, str]]
) -> Comparison:
    """Count where a reference and ours disagree, and where the reference has no answer."""
    theirs = found["decisions"][preset]
    mine, seconds = ours.decide(preset, [text for _, text in chosen])
    result = Comparison(preset=preset, reference=reference)
    for rule in mine:
        assert rule in theirs, f"{reference} does not judge {preset}.{rule}"
        pairs = list(zip(theirs[rule], mine[rule], [one for one, _ in chosen], strict=True))
        differ = [one for their, my, one in pairs if their is not None and their != my]
        result.rules[rule] = (
            sum(their is False for their, _, _ in pairs),
            sum(not my for _, my, _ in pairs),
            len(differ),
            sum(their is None for their, _, _ in pairs),
        )
        result.differ[rule] = differ
    megabytes = sum(len(text.encode()) for _, text in chosen) / 1e6
    their_seconds = max(found["seconds"][preset], 1e-9)
    result.mb_s = (megabytes / their_seconds, megabytes / max(seconds, 1e-9))
    return result


def record(
    one: Comparison, theirs: Mapping[str, list[bool | None]], chosen: Sequence[tuple[str, str]]
) -> None:
    """Write the reference's decisions on the sample: ids, digests, and the rules that drop."""
    rows = {}
    for number, (name, text) in enumerate(chosen):
        dropped = [rule for rule, kept in theirs.items() if kept[number] is False]
        silent = [rule for rule, kept in theirs.items() if kept[number] is None]
        rows[name] = [documents.digest(text), dropped, silent]
    sample = sorted(rows, key=lambda name: documents.digest(name))[:GOLDEN_DOCUMENTS]
    kept = set(sample)
    facts = {
        "preset": one.preset,
        "reference": one.reference,
        "explained": [[i, rule] for rule, ids in one.differ.items() for i in ids if i in kept],
        "columns": ["document", "digest of its text", "rules that drop it", "rules that fail"],
    }
    lines = [json.dumps([name, *rows[name]]) for name in sorted(sample)]
    head = json.dumps(facts, indent=1)[:-2]
    GOLDEN.mkdir(exist_ok=True)
    name = one.preset.replace("@", "_").replace(":", "_")
    (GOLDEN / f"{name}.json").write_text(
        head + ',\n "documents": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"
    )


def check(name: str, made: Made, home: Path, chosen: Sequence[tuple[str, str]]) -> list[list[Any]]:
    """Run a peer's check of parts; return its rows `[what, compared, different]`."""
    script = CHECKS.get(name)
    if script is None:
        return []
    source, out = home / "rules" / f"{script}.in.json", home / "rules" / f"{script}.out.json"
    source.write_text(json.dumps(ours.splitter_facts([text for _, text in chosen])))
    print(f"{script} compares ...", flush=True)
    command = [str(made.python), str(HERE / script), str(source), str(out)]
    subprocess.run(command, check=True, cwd=out.parent)
    rows: list[list[Any]] = json.loads(out.read_text())
    return rows


def parts_table(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return the rows of `check` as Markdown."""
    if not rows:
        return []
    lines = ["", "## Parts", "", "| part | compared | different |", "| --- | ---: | ---: |"]
    return lines + [f"| {what} | {compared:,} | {differ:,} |" for what, compared, differ in rows]


def table(results: Sequence[Comparison], explained: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the results as Markdown."""
    lines = []
    for one in results:
        total = sum(differ for _, _, differ, _ in one.rules.values())
        lines += [
            "",
            f"## {one.preset}",
            "",
            f"Reference: {one.reference}. {total} disagreements. MB of text per CPU second, all "
            f"rules one by one: {one.mb_s[0]:.2f} (reference), {one.mb_s[1]:.1f} (ours).",
            "",
            "| rule | dropped by the reference | by ours | disagreements | no answer |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for rule, numbers in one.rules.items():
            shown = "all of them" if rule == "*" else f"`{rule}`"
            lines.append(f"| {shown} | " + " | ".join(f"{n:,}" for n in numbers) + " |")
        for rule, ids in one.differ.items():
            why = explained.get((one.preset, rule))
            if ids:
                told = f" ({why})" if why else ""
                lines += ["", f"`{rule}`{told}: {', '.join(ids[:SHOWN])}"]
    return lines


def main() -> int:
    """Run what the options ask for; 1 where a disagreement has no explanation."""
    parser = argparse.ArgumentParser(description="compare presets with their references")
    parser.add_argument("--only", nargs="+", metavar="PEER", help="files of peers/")
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--home", type=Path, default=ROOT / ".bench")
    parser.add_argument("--record", action="store_true", help="write tests/curate/golden/")
    options = parser.parse_args()
    chosen = documents.choose(options.data, options.documents)
    results: list[Comparison] = []
    explained: dict[tuple[str, str], str] = {}
    missing: list[str] = []
    parts: list[list[Any]] = []
    for name, peer in peers().items():
        if options.only and name not in options.only:
            continue
        made = environment(peer, options.home.resolve())
        if made.python is None:
            missing.append(f"{peer.PACKAGE}: not installed: {made.reason}")
            continue
        found = references(name, made, options.home.resolve(), chosen)
        parts += check(name, made, options.home.resolve(), chosen)
        explained |= getattr(peer, "EXPLAINED", {})
        for preset in peer.PRESETS:
            load_preset(preset)
            label = f"{peer.PACKAGE} {made.version}".strip()
            one = compare(preset, label, found, chosen)
            results.append(one)
            if options.record:
                record(one, found["decisions"][preset], chosen)
    size = sum(len(text.encode()) for _, text in chosen) / 1e6
    body = table(results, explained) + parts_table(parts) + [f"\n{line}" for line in missing]
    print("\n".join(body), flush=True)
    head = [
        "# Presets against their references",
        "",
        f"Written by `make bench-rules` on {datetime.now(UTC):%Y-%m-%d}: {len(chosen):,} documents "
        f"({size:.1f} MB) of the shared data, a sample of every text file. A rule is judged by "
        "itself; `all of them` is the reference's own verdict, in its own order. `No answer`: the "
        "reference fails on the document (no words to divide by).",
    ]
    usual = options.only is None and options.documents >= 5_000
    target = HERE / "RESULTS.md" if usual else options.home / "rules" / "RESULTS.md"
    target.write_text("\n".join(head + body) + "\n")
    unexplained = [
        f"{one.preset}.{rule}"
        for one in results
        for rule, ids in one.differ.items()
        if ids and (one.preset, rule) not in explained
    ]
    unexplained += [what for what, _, differ in parts if differ]
    if unexplained:
        print(f"\nDisagreements without an explanation: {', '.join(unexplained)}")
    return 1 if unexplained or missing else 0


if __name__ == "__main__":
    sys.exit(main())
