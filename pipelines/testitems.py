"""The texts of test items that a corpus was matched against, for `why` and the report."""

from collections.abc import Iterable

import polars as pl

from curate.corpus.shard import read_shard
from pipelines.corpus import Corpus
from pipelines.evidence import HELD_OUT
from pipelines.passes.forgotten import Tombstones

__all__ = ["item_texts"]


def item_texts(corpus: Corpus, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return (benchmark, item) -> its text, of those that the version's index holds.

    A document that was held out, and that a takedown has forgotten since, has none.
    """
    buried = Tombstones.of(corpus.store.tombstones()).ids
    gone = {(HELD_OUT, one.hex()) for one in buried}
    pairs = sorted(set(wanted) - gone)
    if not pairs:
        return {}
    asked = pl.DataFrame(pairs, schema={"benchmark": pl.String, "item": pl.String}, orient="row")
    found: dict[tuple[str, str], str] = {}
    for shard in corpus.manifest("decontaminate").tables.get("index", ()):
        table = read_shard(corpus.store.storage, shard, ["benchmark", "item", "text"])
        mine = pl.DataFrame(pl.from_arrow(table)).join(asked, on=["benchmark", "item"], how="semi")
        found |= {(benchmark, item): text for benchmark, item, text in mine.iter_rows()}
    return found
