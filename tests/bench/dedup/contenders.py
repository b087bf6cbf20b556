"""Who takes part, how each is started, and what the issue asks of the comparison."""

import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
OURS = "preceptor"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A tool in one setting.

    Attributes:
        name: in the tables.
        environment: the virtual environment it runs in; empty for ours.
        runner: its file under peers/.
        option: the fourth argument of the runner, or more arguments of our command.
        settings: what it was told, for the reader.
        words: the column of the truth that is nearest to its own idea of a word.
        bands, rows: of its LSH.
        must, aim: times our CPU seconds, at least and hoped for; 0 where nothing is asked.
        max_repeats: slow ones run less often; 0 means as often as the others.
        signature_mb: text given to its stage of signatures alone; 0 where it has none.
    """

    name: str
    environment: str = ""
    runner: str = ""
    option: tuple[str, ...] = ()
    settings: str = ""
    words: str = "jaccard"
    bands: int = 14
    rows: int = 8
    must: float = 0
    aim: float = 0
    max_repeats: int = 0
    signature_mb: float = 0

    def command(self, python: Path, source: Path, out: Path) -> list[str]:
        """Return the command of the whole process."""
        if not self.environment:
            driver = [sys.executable, "-m", "pipelines", "dedup", str(source), "--out"]
            return [*driver, str(out / "survivors"), "--workers", "1", *self.option]
        return [str(python), str(self._script), "whole", str(source), str(out), *self.option]

    def signature_command(self, python: Path, source: Path, out: Path) -> list[str]:
        """Return the command of the stage of signatures alone."""
        size = str(self.signature_mb)
        script = str(self._script)
        return [str(python), script, "signatures", str(source), str(out), size, *self.option]

    @property
    def _script(self) -> Path:
        return HERE / "peers" / self.runner


def ours(name: str = OURS, *, bands: int = 16, **changes: str) -> Contender:
    """Return our command, with some settings changed."""
    settings = {"threshold": "0.8", "bands": str(bands), "rows": "7", **changes}
    flags = [f"--{key}" if value == "" else f"--{key}={value}" for key, value in settings.items()]
    return Contender(
        name=name,
        option=tuple(flags),
        settings="16x7, 5 words, exact copies first, every candidate verified at J >= 0.8",
        bands=bands,
        rows=7,
    )


def mutants() -> list[Contender]:
    """Return broken settings of ours that the gates must reject."""
    return [
        ours("threshold 0.01", threshold="0.01"),
        ours("1 band", bands=1),
        ours("verification off", **{"no-verify": ""}),
    ]


PEERS = (
    Contender(
        name="datatrove",
        environment="datatrove",
        runner="datatrove_minhash.py",
        option=("default",),
        settings="its defaults: 14x8, 5 words by spaCy, no verification; Parquet in and out",
        must=35,
        aim=90,
        max_repeats=1,
        signature_mb=6,
    ),
    Contender(
        name="datatrove, split",
        environment="datatrove",
        runner="datatrove_minhash.py",
        option=("split",),
        settings="the same with str.split for spaCy",
        must=7,
        aim=17,
        max_repeats=2,
        signature_mb=20,
    ),
    Contender(
        name="text-dedup",
        environment="text-dedup",
        runner="text_dedup_minhash.py",
        option=("default",),
        settings="14x8, 5 words; its default of no verification removes whole groups",
        words="jaccard_identifiers",
        must=20,
        aim=45,
        max_repeats=2,
        signature_mb=20,
    ),
    Contender(
        name="text-dedup, verified",
        environment="text-dedup",
        runner="text_dedup_minhash.py",
        option=("verified",),
        settings="the same with check_false_positive",
        words="jaccard_identifiers",
        max_repeats=1,
    ),
    Contender(
        name="Data-Juicer",
        environment="data-juicer",
        runner="data_juicer_minhash.py",
        settings="dj-process, 14x8, 5 words cut at spaces, no verification",
        words="jaccard_spaces",
        must=15,
        aim=30,
        max_repeats=2,
        signature_mb=20,
    ),
    Contender(
        name="datasketch",
        environment="datasketch",
        runner="datasketch_lsh.py",
        settings="MinHash.bulk (affine32, sha1), MinHashLSH 14x8; 5 words made in Python",
        must=5,
        aim=12,
        signature_mb=40,
    ),
    Contender(
        name="rensa",
        environment="rensa",
        runner="rensa_rminhash.py",
        settings="RMinHashDeduplicator, 112 slots, 14 bands, checks its estimate at 0.8; 5 words "
        "made in Python",
        must=2.5,
        aim=4.5,
        signature_mb=40,
    ),
    Contender(
        name="gaoya",
        environment="gaoya",
        runner="gaoya_index.py",
        settings="MinHashStringIndex 14x8, 32 bits, checks its estimate at 0.8; 5 words cut by it",
        must=2,
        aim=3.5,
        signature_mb=40,
    ),
)
