"""Replay: rows of an old corpus among those of a new one, so that less of the old is forgotten.

A run that goes on from weights on new text loses some of what it could do; a share of the old rows
in every step buys most of it back (Ibrahim et al. 2024, "Simple and Scalable Strategies to
Continually Pre-train Large Language Models"; there 5 % does where texts are alike, more where they
are not). Nothing is copied: the run gets plans of its own, in which spans of the old corpus's
shards stand behind the new corpus's. The held-out text of both is measured, the old sources under
`NAME:SOURCE`, so that the gain and the loss are in one table.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.order import Permutation
from curate.corpus.schema import schema_of
from curate.corpus.shard import Shard, read_shard
from curate.corpus.storage import Storage
from curate.tokens.tokenizer import load_tokenizer
from pipelines.buried import refuse_buried
from pipelines.corpus import Corpus, open_corpus
from pipelines.packing import num_rows, phases_of
from pipelines.passes.pack import HELD_OUT

__all__ = ["Replay", "entries_of", "merge_plans", "uri_of", "write_plan"]

_PURPOSE = 1 << 40  # in the place of an epoch: the choice of rows is not the order of any


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What of an old corpus a run on a new one reads.

    Attributes:
        new, old: the corpora.
        share: of old rows in the training plans; 0: only the old held-out text is measured.
        rows: old rows of each training plan.
        seed: of the choice.
    """

    new: Corpus
    old: Corpus
    share: float
    rows: Mapping[str, int]
    seed: int

    @classmethod
    def of(
        cls, new: Corpus, config: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> "Replay | None":
        """Return what a config asks for, or None.

        The old corpus is the one that is named, else the one that the start was trained on
        (`before`: its name, version and fingerprint). Without a share that one's held-out text is
        measured if the store has it and it is another one.

        Raises:
            InputError: there is no such corpus, its rows do not fit, or they are too few.
        """
        share, named = float(config.get("replay", 0.0)), config.get("replay_corpus")
        if not share and named is None and not _here(new, before):
            return None
        old = _old(new, named, before)
        _refuse_unlike(new, old)
        refuse_buried(old)
        rows = _rows_asked(new, old, share)
        seed = config.get("seed")
        seed = new.manifest("pack").settings["seed"] if seed is None else seed
        return cls(new=new, old=old, share=share, rows=rows, seed=seed)

    @property
    def content(self) -> list[str]:
        """What the replay adds to a run's identity."""
        tokenized, packed = (self.old.manifest(name).content for name in ("tokenize", "pack"))
        return [tokenized, packed, repr(self.share)]

    def merged(self, contents: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Write the merged plans into the run's folder; return what changes in its `run.json`."""
        old, version = self.old, self.old.version
        plans = merge_plans(self.new, old, self.rows, seed=self.seed)
        written = {
            name: [write_plan(folder / f"plan_{name}.arrow", plan)] for name, plan in plans.items()
        }
        sources = [f"{version.name}:{name}" for name in old.manifest("pack").settings["sources"]]
        shards = entries_of(old.store.storage, old.shards("tokens"))
        return {
            "sources": [*contents["sources"], *sources],
            "shards": [*contents["shards"], *shards],
            "plans": {**contents["plans"], **written},
            "replay": {
                "corpus": {
                    "name": version.name,
                    "version": version.number,
                    "fingerprint": version.fingerprint,
                },
                "share": self.share,
                "rows": sum(self.rows.values()),
            },
        }


def uri_of(storage: Storage, name: str) -> str:
    """Return where a trainer finds a file of the store."""
    return storage.full(name) if storage.is_local else f"{storage.uri}/{name}"


def entries_of(storage: Storage, shards: Sequence[Shard]) -> list[dict[str, Any]]:
    """Return what a run file says of shards."""
    return [
        {"uri": uri_of(storage, s.path), "sha256": s.sha256, "rows": s.rows, "bytes": s.bytes}
        for s in shards
    ]


def _here(new: Corpus, before: Mapping[str, Any] | None) -> bool:
    """Return whether the corpus before is another one than the new one, and in the same store."""
    try:
        return before is not None and _old(new, None, before).version != new.version
    except InputError:
        return False


def _old(new: Corpus, named: str | None, before: Mapping[str, Any] | None) -> Corpus:
    """Open the corpus that is named, else the one that the start was trained on."""
    if named is not None:
        return open_corpus(named, store=new.store)
    if before is None:
        raise InputError(
            "train.replay: the start tells no corpus it was trained on; name one: replay_corpus"
        )
    old = open_corpus(f"{before['name']}@{before['version']}", store=new.store)
    if old.version.fingerprint != before["fingerprint"]:
        raise InputError(
            f"{old.version} in {new.store.uri} is not what the start was trained on; name the "
            "corpus to replay: replay_corpus"
        )
    return old


def _refuse_unlike(new: Corpus, old: Corpus) -> None:
    """Refuse an old corpus whose rows do not fit among the new one's."""
    if old.version.fingerprint == new.version.fingerprint:
        raise InputError(f"train.replay_corpus is {old.version}, the corpus that is trained on")
    if _ids(new) != _ids(old):
        theirs = old.manifest("tokenize").info["tokenizer"]["path"]
        raise InputError(
            f"{new.version} and {old.version} have other tokenizers, so one model cannot read both"
            f"\nGive {new.version.name}'s recipe the old one: tokenize: {{tokenizer: {{path: "
            f"{uri_of(old.store.storage, theirs)}}}}}"
        )
    here, there = (one.manifest("pack").settings["row_tokens"] for one in (new, old))
    if here != there:
        raise InputError(
            f"rows of {new.version} have {here} tokens, those of {old.version} {there}; a run has "
            f"rows of one length\nGive {new.version.name}'s recipe pack: {{row_tokens: {there}}}"
        )


def _ids(corpus: Corpus) -> tuple[dict[str, int], dict[str, int]]:
    """Return a corpus's specials by name and all of its tokens, with their ids."""
    tokenizer = corpus.manifest("tokenize").info["tokenizer"]
    data = corpus.store.storage.read(tokenizer["path"])
    if data is None:
        raise InputError(f"the tokenizer of {corpus.version} is gone from the store; run it again")
    vocabulary = load_tokenizer(data, tokenizer.get("named")).model.get_vocab()
    return dict(tokenizer["specials"]), vocabulary


def _rows_asked(new: Corpus, old: Corpus, share: float) -> dict[str, int]:
    """Return how many old rows each training plan of the new corpus gets.

    `share` of a plan's rows are old ones then: share / (1 - share) for each new row, rounded.
    """
    plans = {phase["plan"]: int(phase["rows"]) for phase in phases_of(new.manifest("pack"))}
    asked = {name: round(rows * share / (1 - share)) for name, rows in plans.items()}
    there = num_rows(old.manifest("pack"))
    if sum(asked.values()) > there:
        most = there / (there + sum(plans.values()))
        raise InputError(
            f"train.replay {share:g} asks for {sum(asked.values()):,} rows of {old.version}, which "
            f"has {there:,}; no row is replayed twice: give at most {math.floor(most * 1e4) / 1e4}"
        )
    return asked


def merge_plans(new: Corpus, old: Corpus, asked: Mapping[str, int], *, seed: int) -> dict[str, Any]:
    """Return the merged plans by name: all new rows, then the old ones.

    Old training rows come from all phases of the old corpus, in the order of a keyed permutation of
    which every plan takes the next ones, so that no row comes twice. Held-out plans are whole.

    Args:
        asked: old rows of each training plan ; plans of 0 rows are not merged.
    """
    mine, theirs = new.manifest("pack"), old.manifest("pack")
    offsets = len(new.shards("tokens")), len(mine.settings["sources"])
    plans = {}
    for split in HELD_OUT:
        tables = [_rows(one, f"plan_{split}") for one in (new, old)]
        plans[split] = pa.concat_tables([tables[0], _shifted(tables[1], *offsets)])
    wanted = sum(asked.values())
    if not wanted:
        return plans
    there = pa.concat_tables([_rows(old, f"plan_{phase['plan']}") for phase in phases_of(theirs)])
    chosen = Permutation(there.num_rows, key=(seed, _PURPOSE)).row_of(np.arange(wanted))
    first = 0
    for name, rows in asked.items():
        taken = there.take(pa.array(np.sort(chosen[first : first + rows])))
        plans[name] = pa.concat_tables([_rows(new, f"plan_{name}"), _shifted(taken, *offsets)])
        first += rows
    return plans


def write_plan(path: Path, plan: Any) -> dict[str, Any]:
    """Write a plan beside `run.json` and return its entry there; equal plans give equal bytes."""
    partial = path.with_name(f"{path.name}.partial")
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, plan.schema) as writer:
        writer.write_table(plan)
    data = partial.read_bytes()
    partial.replace(path)
    sha256 = hashlib.sha256(data).hexdigest()
    return {"uri": path.name, "sha256": sha256, "rows": plan.num_rows, "bytes": len(data)}


def _rows(corpus: Corpus, table: str) -> Any:
    """Return a plan of a corpus as one table."""
    shards: Sequence[Shard] = corpus.manifest("pack").tables.get(table, ())
    read = [read_shard(corpus.store.storage, shard) for shard in shards]
    schema = schema_of("plan")
    return pa.concat_tables([schema.empty_table(), *(one.cast(schema) for one in read)])


def _shifted(plan: Any, num_shards: int, num_sources: int) -> Any:
    """Return a plan whose spans count shards and sources from these numbers on."""
    spans = plan["spans"].combine_chunks()
    flat = spans.flatten()
    columns = {field.name: flat.field(field.name) for field in flat.type}
    for name, more in (("shard", num_shards), ("source", num_sources)):
        columns[name] = pc.add_checked(columns[name], pa.scalar(more, columns[name].type))
    moved = pa.StructArray.from_arrays(list(columns.values()), fields=list(flat.type))
    offsets = np.append(0, np.cumsum(pc.list_value_length(spans).to_numpy()))
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), moved, type=spans.type)
    return pa.table([lists], schema=plan.schema)
