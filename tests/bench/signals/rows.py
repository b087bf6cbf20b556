"""Who takes part in which row, in which environment, and what the issue asks of the comparison."""

from dataclasses import dataclass
from pathlib import Path

from neighbours import HERE, environments

OURS = "preceptor"
Environment = environments.Environment

ENVIRONMENTS = {
    **{name: environments.ENVIRONMENTS[name] for name in ("datatrove", "data-juicer")},
    **{
        one.name: one
        for one in (
            # As in tests/bench/rules: two benchmarks, one environment. Its s3fs leaves pip
            # thousands of versions of boto3 to try; these are the ones that fit.
            Environment(
                name="dolma",
                package="dolma",
                requirements=(
                    "dolma[code]==1.2.1",
                    "boto3==1.28.17",
                    "botocore==1.31.17",
                    "aiobotocore==2.5.4",
                ),
            ),
            # beautifulsoup4 and lxml are imported by its filters and not declared without a GPU.
            Environment(
                name="nemo-curator",
                package="nemo-curator",
                requirements=("nemo-curator==1.4.0", "beautifulsoup4", "lxml"),
                needs_torch=True,
            ),
            Environment(
                name="lm-eval",
                package="lm_eval",
                requirements=("lm_eval==0.4.13",),
                needs_torch=True,
            ),
        )
    },
}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A tool that does what a row of the table asks for, on the same texts as ours.

    Attributes:
        name: in the table.
        row: which component: `gopher` or `ngrams`.
        environment: the virtual environment it runs in; empty for ours.
        runner: its file under peers/.
        option: the runner's last argument.
        settings: what it does, for the reader.
        must, aim: times our CPU seconds, at least and hoped for; 0 where nothing is asked.
        max_repeats: slow ones run less often; 0 means as often as the others.
    """

    name: str
    row: str
    environment: str = ""
    runner: str = ""
    option: str = ""
    settings: str = ""
    must: float = 0
    aim: float = 0
    max_repeats: int = 0

    def command(self, python: Path, sample: Path, items: Path) -> list[str]:
        """Return the command that measures it."""
        script = HERE / ("peers" if self.environment else "") / self.runner
        return [str(python), str(script), str(sample), str(items), self.option]


TITLES = {
    "gopher": "Gopher quality and repetition",
    "ngrams": "decontamination by 13-grams",
}

OURS_IN = {
    "gopher": Contender(
        name=OURS,
        row="gopher",
        runner="ours.py",
        option="gopher",
        settings="families document, gopher and repetition: 8 + 13 statistics, white-space words",
    ),
    "ngrams": Contender(
        name=OURS,
        row="ngrams",
        runner="ours.py",
        option="ngrams",
        settings="`BenchmarkIndex.match`, ngram of 13 words, all items above 0 with their spans",
    ),
}

PEERS = (
    Contender(
        name="dolma",
        row="gopher",
        environment="dolma",
        runner="dolma_gopher.py",
        settings="tagger gopher_v1: quality and repetition, white-space words",
        must=20,
        aim=60,
    ),
    Contender(
        name="NeMo Curator",
        row="gopher",
        environment="nemo-curator",
        runner="nemo_gopher.py",
        settings="`score_document` of 20 filters (7 of quality, 13 of repetition) on the CPU",
        must=25,
        aim=80,
    ),
    Contender(
        name="datatrove",
        row="gopher",
        environment="datatrove",
        runner="datatrove_gopher.py",
        settings="GopherQualityFilter and GopherRepetitionFilter as they are (words by spaCy)",
        must=100,
        aim=400,
        max_repeats=2,
    ),
    Contender(
        name="datatrove, split",
        row="gopher",
        environment="datatrove",
        runner="datatrove_gopher.py",
        option="split",
        settings="the same with str.split for spaCy",
    ),
    Contender(
        name="Data-Juicer",
        row="gopher",
        environment="data-juicer",
        runner="data_juicer_filters.py",
        settings="its 8 filters of the kind (other statistics; no n-grams of 2 to 9 words)",
    ),
    Contender(
        name="datatrove, split",
        row="ngrams",
        environment="datatrove",
        runner="datatrove_ngrams.py",
        option="split",
        settings="NGramsDecontFilter, 13 words by str.split, its own normaliser",
        must=20,
        aim=60,
    ),
    Contender(
        name="datatrove",
        row="ngrams",
        environment="datatrove",
        runner="datatrove_ngrams.py",
        settings="the same with its default, spaCy",
        max_repeats=1,
    ),
    Contender(
        name="lm-eval",
        row="ngrams",
        environment="lm-eval",
        runner="lm_eval_janitor.py",
        settings="Janitor(ngram_n=13).clean_python, which also cuts the text",
        must=40,
        aim=120,
    ),
)
