"""Compare our near-duplicate removal with other tools: speed, memory, recall and precision.

`make bench-dedup` makes the corpus, an environment for each tool, runs all in turns (ours, a tool,
ours, the next tool, ...), whole processes from file to file on one core, and writes RESULTS.md.
Everything it makes is under .bench/, which may be deleted.
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import contenders
import corpus as corpora
import measure
import pyarrow.parquet as pq
import results
from contenders import OURS, PEERS, ROOT, Contender
from environments import ENVIRONMENTS, Made, ensure
from scores import Judge, Score, surviving_ids

SIZE_MB, QUICK_MB = 175, 50
TINY_DOCS = 20
LOG_TAIL = 300


class Bench:
    """One benchmark: its corpus, its environments and what was measured so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.home = options.home.resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / ".gitignore").write_text("*\n")
        self.core = options.core
        self.repeats = options.repeats
        self.corpus = corpora.prepare(
            self.home,
            size_mb=options.size_mb,
            seed=options.seed,
            data=options.data,
            column=options.column,
        )
        print(
            f"{self.corpus.facts['documents']:,} documents, {self.corpus.num_mb:.1f} MB", flush=True
        )
        self.judge = Judge(self.corpus.parquet, self.corpus.truth)
        self.peers = [one for one in PEERS if options.only is None or one.name in options.only]
        needed = {one.environment for one in self.peers}
        self.environments: dict[str, Made] = {
            name: ensure(one, self.home / "venvs")
            for name, one in ENVIRONMENTS.items()
            if name in needed
        }
        self.ours = contenders.ours()
        self.runs: dict[str, list[dict[str, Any]]] = {}
        self.problems: dict[str, str] = {}

    def whole(self, one: Contender, source: Path, cache: Path | None = None) -> tuple[Any, Path]:
        """Run a contender from file to file; return what it took and where its output is."""
        out = self.home / "out" / one.name.replace(" ", "-").replace(",", "")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        made = self.environments.get(one.environment)
        python = made.python if made and made.python else Path(sys.executable)
        env = {"HF_HOME": str(out / "hf"), "XDG_CACHE_HOME": str(cache or self.home / "cache")}
        # Ours runs in the checkout; the others anywhere but there, where they might import it.
        cwd = ROOT if not one.environment else out
        used = measure.run(
            one.command(python, source, out),
            log=self.home / "out" / f"{out.name}.log",
            cwd=cwd,
            env=env,
            core=self.core,
        )
        return used, out / "survivors"

    def once(self, one: Contender, pair: int | None = None) -> bool:
        """Run and judge a contender on the corpus; False where it failed."""
        used, survivors = self.whole(one, self.corpus.parquet)
        if used.code != 0:
            tail = used.log.read_text(errors="replace").strip()[-LOG_TAIL:]
            self.problems[one.name] = f"failed with status {used.code}: {tail.splitlines()[-1]}"
            print(f"  {one.name}: {self.problems[one.name]} (see {used.log})", flush=True)
            return False
        score = self.judge.score(surviving_ids(survivors), one.words)
        run = {**asdict(used), "log": "", "score": asdict(score), "pair": pair}
        if not one.environment:
            run["wrong_edges"] = self.judge.wrong_edges(survivors / "duplicates.parquet")
        self.runs.setdefault(one.name, []).append(run)
        print(
            f"  {one.name}: {used.cpu_s:.1f} CPU s, {used.wall_s:.1f} s, {used.peak_mib:.0f} MiB, "
            f"recall {score.recall:.4f}, precision {score.precision:.4f}",
            flush=True,
        )
        return True

    def compare(self) -> None:
        """Run ours and each of the others in turns."""
        self.once(self.ours)  # compiles what is not compiled yet, and is thrown away
        self.runs.pop(OURS, None)
        for turn in range(self.repeats):
            for one in self.peers:
                if one.name in self.problems or turn >= (one.max_repeats or self.repeats):
                    continue
                made = self.environments[one.environment]
                if made.python is None:
                    self.problems[one.name] = f"not installed: {made.reason}"
                    print(f"  {one.name}: {self.problems[one.name]}", flush=True)
                    continue
                if self.once(self.ours):
                    self.once(one, pair=len(self.runs[OURS]) - 1)
                else:
                    self.problems.pop(OURS)  # it may come right: the others are still worth it
                    self.once(one)

    def mutants(self) -> dict[str, list[str]]:
        """Run broken settings of ours; return the gates that each fails."""
        found: dict[str, list[str]] = {}
        for one in contenders.mutants():
            if not self.once(one):
                continue
            run = self.runs.pop(one.name)[0]
            found[one.name] = Score(**run["score"]).failures()
            said = "; ".join(found[one.name]) or "PASSES ALL GATES, and must not"
            print(f"  mutant '{one.name}': {said}", flush=True)
        return found

    def signature_rates(self) -> dict[str, Any]:
        """Return MB of text per CPU second of the signatures alone, ours and each peer's."""
        rates: dict[str, Any] = {}
        script = str(contenders.HERE / "signatures.py")
        command = [sys.executable, script, str(self.corpus.parquet), str(max(3, self.repeats))]
        env = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.home / "cache")}
        answer = self._json(OURS, command, env, core=None)
        if answer:
            rates[OURS] = answer
        for one in self.peers:
            made = self.environments[one.environment]
            if one.signature_mb and made.python and one.name not in self.problems:
                out = self.home / "out" / "signatures"
                out.mkdir(parents=True, exist_ok=True)
                command = one.signature_command(made.python, self.corpus.parquet, out)
                answer = self._json(one.name, command, {"HF_HOME": str(out / "hf")}, self.core)
                if answer:
                    rate = answer["text_bytes"] / 1e6 / answer["cpu_s"]
                    rates[one.name] = {"mb_per_cpu_s": rate}
        return rates

    def start_up(self) -> dict[str, float]:
        """Return the seconds that ours takes on a few documents, with compiled kernels and without.

        The clock's, of the fastest run: what a person waits for at least.
        """
        folder = self.home / "tiny"
        folder.mkdir(exist_ok=True)
        tiny = folder / "documents.parquet"
        pq.write_table(pq.read_table(self.corpus.parquet).slice(0, TINY_DOCS), tiny)
        cold_cache = self.home / "cold-cache"
        found: dict[str, list[float]] = {"warm": [], "cold": []}
        for kind, times in (("warm", 5), ("cold", 2)):
            for _ in range(times):
                shutil.rmtree(cold_cache, ignore_errors=True)
                used, _ = self.whole(self.ours, tiny, cold_cache if kind == "cold" else None)
                if used.code == 0:
                    found[kind].append(used.wall_s)
        shutil.rmtree(cold_cache, ignore_errors=True)
        return {kind: min(seconds) for kind, seconds in found.items() if seconds}

    def _json(
        self, name: str, command: list[str], env: dict[str, str], core: int | None
    ) -> dict[str, float]:
        """Run a command whose last line is JSON; nothing where it failed."""
        log = self.home / "out" / "json.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        used = measure.run(command, log=log, cwd=self.home, env=env, core=core)
        lines = log.read_text(errors="replace").strip().splitlines()
        if used.code != 0 or not lines:
            print(f"  signatures of {name}: failed: {lines[-1] if lines else 'no output'}")
            return {}
        answer: dict[str, float] = json.loads(lines[-1])
        print(f"  signatures of {name}: {answer}", flush=True)
        return answer


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=float, default=0, help=f"of text (default {SIZE_MB})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="a folder of .txt, .jsonl or .parquet instead")
    parser.add_argument("--column", default="text", help="the column or key of the text in --data")
    parser.add_argument("--repeats", type=int, default=3, help="of each but the slowest tools")
    parser.add_argument(
        "--only", nargs="*", help="these tools: " + ", ".join(p.name for p in PEERS)
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MB} MB, two repeats")
    parser.add_argument("--core", type=int, default=_last_core(), help="the core to run on")
    parser.add_argument("--home", type=Path, default=ROOT / ".bench")
    parser.add_argument("--results", type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats = min(options.repeats, 2)
    usual = not (options.quick or options.size_mb or options.data) and options.only is None
    options.size_mb = options.size_mb or (QUICK_MB if options.quick else SIZE_MB)
    if options.results is None:
        folder = contenders.HERE if usual else options.home
        options.results = folder / "RESULTS.md"
    return options


def _last_core() -> int | None:
    """Return a core to pin to: not the first one, which serves interrupts."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def main() -> int:
    """Measure everything and write the results; 1 where a gate does not hold."""
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    bench = Bench(options)
    print("Whole processes, in turns:", flush=True)
    bench.compare()
    print("Mutants, which the gates must reject:", flush=True)
    mutants = bench.mutants()
    print("Signatures alone, and start-up:", flush=True)
    facts = {
        "command": "make bench-dedup"
        + (f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "load": [load, os.getloadavg()[0]],
        "repeats": options.repeats,
        "size_mb": bench.corpus.num_mb,
        "corpus": bench.corpus.facts,
        "expected": {
            f"{bands}x{rows}": bench.judge.s_curve(bands, rows)
            for bands, rows in ((16, 7), (14, 8))
        },
        "runs": bench.runs,
        "problems": bench.problems,
        "versions": {name: made.version for name, made in bench.environments.items()},
        "mutants": mutants,
        "signatures": bench.signature_rates(),
        "start_up": bench.start_up(),
    }
    (bench.home / "results.json").write_text(json.dumps(facts, indent=1))
    options.results.write_text(results.page(facts))
    print(f"Wrote {options.results}")
    failures = results.failures(facts)
    for line in failures:
        print(f"GATE: {line}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
