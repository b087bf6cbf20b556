"""datatrove: its four stages in one process; option `split` replaces spaCy by `str.split`.

Everything else is its default, which is 14 bands of 8 rows over 5 words.
"""

import sys
from pathlib import Path

import shared
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.word_tokenizers import WordTokenizer


class SplitTokenizer(WordTokenizer):
    """Words are what stands between spaces (its normaliser has removed punctuation by then)."""

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the text as one sentence; not used."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the text's one span; not used."""
        return [(0, len(text))]


def new_stage(folder: Path, option: str) -> MinhashDedupSignature:
    """Return the first stage."""
    stage = MinhashDedupSignature(output_folder=str(folder), config=MinhashConfig())
    if option == "split":
        stage.word_tokenizer = SplitTokenizer()
    return stage


def whole(source: Path, out: Path, option: str) -> None:
    """Run the stages one after the other."""

    def reader() -> ParquetReader:
        return ParquetReader(str(source.parent), glob_pattern=source.name)

    parts = {name: str(out / name) for name in ("signatures", "buckets", "removed", "survivors")}
    stages = (
        ([reader(), new_stage(out / "signatures", option)], 1),
        (
            [MinhashDedupBuckets(input_folder=parts["signatures"], output_folder=parts["buckets"])],
            shared.BANDS,
        ),
        ([MinhashDedupCluster(input_folder=parts["buckets"], output_folder=parts["removed"])], 1),
        (
            [
                reader(),
                MinhashDedupFilter(input_folder=parts["removed"]),
                ParquetWriter(parts["survivors"], compression="zstd"),
            ],
            1,
        ),
    )
    for number, (pipeline, tasks) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=1, logging_dir=str(out / f"logs-{number}")
        ).run()


def signatures(texts: list[str]) -> None:
    """Compute the signatures without writing them."""
    option = sys.argv[5] if len(sys.argv) > 5 else ""
    stage = new_stage(Path(sys.argv[3]) / "unused", option)
    for text in texts:
        shingles = stage.get_shingles(text)
        if shingles.size:
            stage.get_signature(shingles)


if __name__ == "__main__":
    shared.main(whole, signatures)
