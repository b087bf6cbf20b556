"""Mix: verdicts + weights + budget -> draws, the copies of each training document in each phase.

And the held-out documents whose loss is told per source. Signals are read only where domains or
quality curves are expressions over them, verdicts only where copies follow the duplicates.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, read_shard
from curate.mixture.curves import Curve
from curate.mixture.defaults import OTHERS
from curate.mixture.draws import Documents, Draws, Phase, plan_draws
from curate.mixture.heldout import choose_held_out, target_bytes
from curate.mixture.shares import Strategy
from curate.rules.expression import Value, parse_value
from curate.rules.ruleset import readable_columns
from curate.tokens.shards import token_lengths
from pipelines.digest import code_digest
from pipelines.mixing import Portion, mixture_reads, parse_budget
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    Workspace,
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.passes.tally import check_draws, check_held_out
from pipelines.tokenizing import budget_unit

__all__ = ["draw", "run"]

_HELD_OUT = ("validation", "test")
_MOST_DOMAINS = 1000
_NEAR = 100  # one part in so many of a budget may be missed without a word
_NULL = "null"  # the domain of documents whose expression has no value


def run(context: Context) -> Manifest:
    """Draw the mixture from the training split."""
    began = time.monotonic()
    manifests, recipe = context.manifests, context.recipe
    tokenized, mix = manifests["tokenize"], recipe.mix
    code = code_digest(__name__)
    portions = mix.portions()
    reads = sorted(mixture_reads(recipe))
    settings = {
        "mix": mix.model_dump(mode="json"),
        "phases": [_phase_settings(name, portion) for name, portion in portions.items()],
        "budget_tokens": mix.budget_tokens,
        "held_out": "all"
        if mix.held_out == "all"
        else mix.held_out and parse_budget(mix.held_out)[0],
        "sources": [source.name for source in recipe.sources],
        "reads": reads,
        "seed": recipe.seed,
    }
    evidence = {"tokens": tokenized.tables["tokens"], "signals": (), "verdicts": ()}
    parents = {"tokenize": tokenized.fingerprint}
    if set(reads) - {"source"}:
        evidence["signals"] = manifests["measure"].tables["signals"]
        parents["measure"] = manifests["measure"].fingerprint
    if any(portion.copies for portion in portions.values()):
        evidence["verdicts"] = manifests["judge"].tables["verdicts"]
        parents["judge"] = manifests["judge"].fingerprint
    content = [f"{name}:{shard.sha256}" for name in evidence for shard in evidence[name]]
    job = PartJob(
        part_key(code, settings, *content), draw, (evidence, settings, recipe.measure.asked)
    )
    (parts,) = run_parts(context, "mix", "draw", [job])
    tables = tables_of([parts], "draws", "held_out")
    if not context.peek:
        drawn = parts.counts["drawn_tokens"]
        storage, shards = context.store.storage, evidence["tokens"]
        check_draws(storage, shards, tables["draws"], drawn)
        check_held_out(storage, shards, tables["held_out"], parts.counts["held_out_documents"])
        for phase in parts.info["phases"]:
            missed = _missed(phase, budget_unit(recipe.media), several=len(portions) > 1)
            if missed:
                context.note("mix", missed)
    manifest = Manifest(
        name="mix",
        settings=settings,
        code=code,
        parents=parents,
        tables=tables,
        counts=parts.counts,
        info=parts.info,
    )
    return finish(context, manifest, began)


def _missed(phase: Mapping[str, Any], word: str, *, several: bool) -> str | None:
    """Return what to tell of a budget that is not met within a document or 1 % of it.

    Every domain is cut at the whole document nearest to its share, so that no domain moves the
    draws of another; the differences of many domains add up.
    """
    budget, unit, rows = phase["budget"], phase["unit"], phase["domains"]
    unit = word if unit == "tokens" else unit
    if budget is None:
        return None
    drawn = sum(row["realised"] for row in rows)
    off = abs(drawn - budget)
    if drawn and off <= max(phase["longest"], budget // _NEAR):
        return None
    mine = [row for row in rows if row["asked"]]
    none = sum(not row["realised"] for row in mine)
    where = f"phase {phase['name']!r}: " if several else ""
    return (
        f"{where}of the {budget:,} {unit} of the budget {drawn:,} were drawn "
        f"({100 * drawn / budget:.1f} %): each domain is cut at the whole document nearest to its "
        f"share, and for {none:,} of {len(mine):,} that is before the first. "
        "Raise the budget, or group the domains"
    )


def _phase_settings(name: str, portion: Portion) -> dict[str, Any]:
    """Return what a manifest tells of a phase: everything that decides its draws."""
    said = portion.model_dump(mode="json", include=set(Portion.model_fields))
    amount, unit = portion.amount
    return {"name": name, "amount": amount, "unit": unit, "kind": portion.kind, **said}


def _phase(told: Mapping[str, Any]) -> Phase:
    """Return the phase that `_phase_settings` tells of."""
    options = told["strategy"] or {}
    return Phase(
        name=told["name"],
        strategy=Strategy(
            kind=told["kind"],
            budget=told["amount"],
            unit=told["unit"],
            temperature=options.get("temperature") or 1.0,
            epochs_at_most=(options.get("unimax") or {}).get("epochs"),
            weights=told["weights"] or {},
            epochs=told["epochs"] or {},
        ),
        copies={int(start): float(factor) for start, factor in (told["copies"] or {}).items()},
        curves={domain: Curve(**curve) for domain, curve in (told["quality"] or {}).items()},
    )


def draw(
    workspace: Workspace,
    evidence: Mapping[str, Sequence[Shard]],
    settings: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> Parts:
    """Job: decide how often each training document is read, and whose loss is told."""
    everything = _read_tokens(workspace, evidence["tokens"])
    train = everything.filter(pl.col("split") == "train")
    phases = [_phase(told) for told in settings["phases"]]
    train = _with_signals(workspace, evidence["signals"], train, settings["reads"])
    domains, codes = _domains(train, settings, measured)
    documents = Documents(
        codes=codes,
        tokens=train["tokens"].to_numpy(),
        doc_ids=_ids(train),
        num_bytes=train["num_bytes"].to_numpy(),
        alike=_alike(workspace, evidence["verdicts"], train),
        qualities=_qualities(phases, train, measured),
    )
    drawn = plan_draws(
        documents,
        phases,
        domains=domains,
        repeat_cap=settings["mix"]["repeat_cap"],
        seed=settings["seed"],
    )
    held_out, told = _held_out(everything, settings)
    tables = {
        "draws": _write_draws(workspace, train, np.array(domains), codes, drawn),
        "held_out": _write(workspace, "held_out", held_out),
    }
    total = np.asarray(np.sum([one.copies for one in drawn], axis=0, dtype=np.int64))
    counts = {
        "documents": train.height,
        "drawn_documents": int((total > 0).sum()),
        "drawn_tokens": int((total * documents.tokens).sum()),
        "held_out_documents": held_out.height,
    }
    info = {
        "phases": [
            {
                "name": phase.name,
                "unit": phase.strategy.unit,
                "budget": phase.strategy.budget,
                "longest": one.longest,
                "domains": one.rows,
            }
            for phase, one in zip(phases, drawn, strict=True)
        ],
        "domains": _total(drawn, codes, total),
        "held_out": told,
    }
    return Parts(tables, counts, info)


def _read_tokens(workspace: Workspace, shards: Sequence[Shard]) -> pl.DataFrame:
    """Return doc_id, source, split, num_bytes, tokens of every document."""
    frames = [
        pl.DataFrame(
            schema={
                "doc_id": pl.Binary,
                "source": pl.String,
                "split": pl.String,
                "num_bytes": pl.Int64,
                "tokens": pl.Int64,
            }
        )
    ]
    for shard in shards:
        table = read_shard(workspace.storage, shard)
        told = pl.DataFrame(pl.from_arrow(table.select(["doc_id", "source", "split", "num_bytes"])))
        frames.append(told.with_columns(tokens=pl.Series(token_lengths(table), dtype=pl.Int64)))
    return pl.concat(frames, rechunk=True)


def _with_signals(
    workspace: Workspace, shards: Sequence[Shard], train: pl.DataFrame, reads: Sequence[str]
) -> pl.DataFrame:
    """Join the signals that the mixture reads."""
    wanted = [name for name in reads if name != "source"]
    if not wanted:
        return train
    found = []
    for shard in shards:
        table = read_shard(workspace.storage, shard, ["doc_id", *wanted])
        rows = pl.DataFrame(pl.from_arrow(table))
        found.append(rows.join(train.select("doc_id"), on="doc_id", how="semi"))
    assert found or not train.height, "every document was measured"
    if not found:
        return train.with_columns(pl.lit(None).alias(name) for name in wanted)
    joined = train.join(pl.concat(found), on="doc_id", how="left", maintain_order="left")
    assert joined.height == train.height, "one row of signals per document"
    return joined


def _column(train: pl.DataFrame, value: Value) -> pl.Series:
    """Return the value of an expression for each document."""
    return train.select(value.expression.alias("value")).to_series()


def _domains(
    train: pl.DataFrame, settings: Mapping[str, Any], measured: Mapping[str, Any]
) -> tuple[list[str], np.ndarray]:
    """Return the domains' names, and each document's domain as an index into them.

    Sources stand in the recipe's order, whether or not a document of theirs is left; the values of
    an expression in alphabetical order.
    """
    sql = settings["mix"]["domains"]
    if sql == "source":
        names = list(settings["sources"])
        found = train["source"]
    else:
        value = parse_value("mix.domains", sql, readable_columns(measured))
        found = _column(train, value) if train.height else pl.Series([], dtype=pl.String)
        if value.kind == "float":  # 3.0 is called 3, as FLOOR and CEIL give it
            whole = found.cast(pl.Int64, strict=False)
            same = (whole.cast(pl.Float64) == found).fill_null(value=False)
            found = pl.select(
                pl.when(same).then(whole.cast(pl.String)).otherwise(found.cast(pl.String))
            ).to_series()
        found = found.cast(pl.String).fill_null(_NULL)
        names = found.unique().sort().to_list()
        if len(names) > _MOST_DOMAINS:
            raise InputError(
                f"mix.domains: {sql!r} gives {len(names):,} domains, more than {_MOST_DOMAINS:,}; "
                "group its values, with CASE or ROUND"
            )
    if OTHERS in names:
        raise InputError(f"mix.domains: {sql!r} gives a domain {OTHERS!r}, which means all others")
    codes = pc.index_in(found.to_arrow().cast(pa.string()), pa.array(names, pa.string()))
    return names, codes.to_numpy(zero_copy_only=False).astype(np.int64)


def _qualities(
    phases: Sequence[Phase], train: pl.DataFrame, measured: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return each quality that a curve goes by, NaN where it has no value."""
    columns = readable_columns(measured)
    wanted = {curve.by for phase in phases for curve in phase.curves.values()}
    if not train.height:
        return {sql: np.empty(0) for sql in wanted}
    return {
        sql: _column(train, parse_value("mix.quality", sql, columns))
        .cast(pl.Float64)
        .fill_null(float("nan"))
        .to_numpy()
        for sql in sorted(wanted)
    }


def _alike(
    workspace: Workspace, verdicts: Sequence[Shard], train: pl.DataFrame
) -> np.ndarray | None:
    """Return how many documents each speaks for: itself, and those it is kept instead of."""
    if not verdicts:
        return None
    columns = [read_shard(workspace.storage, shard, ["kept_id"]) for shard in verdicts]
    frames = [pl.DataFrame(pl.from_arrow(table)).drop_nulls() for table in columns]
    spoken = pl.concat(frames).group_by("kept_id").len()
    joined = train.select("doc_id").join(
        spoken, left_on="doc_id", right_on="kept_id", how="left", maintain_order="left"
    )
    return joined["len"].fill_null(0).cast(pl.Int64).to_numpy() + 1


def _held_out(
    everything: pl.DataFrame, settings: Mapping[str, Any]
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Return the held-out documents whose loss is told, and what that is of each source."""
    asked = settings["held_out"]
    names = settings["sources"]
    chosen, rows = [], []
    for split in _HELD_OUT:
        frame = everything.filter(pl.col("split") == split)
        sources = pc.index_in(frame["source"].to_arrow().cast(pa.string()), pa.array(names))
        codes = sources.to_numpy(zero_copy_only=False).astype(np.int64)
        num_bytes = frame["num_bytes"].to_numpy()
        available = [int(num_bytes[codes == code].sum()) for code in range(len(names))]
        target = sum(available) if asked == "all" else target_bytes(available, asked)
        mask = choose_held_out(codes, num_bytes, _ids(frame), target=target, seed=settings["seed"])
        chosen.append(frame.filter(pl.Series(mask)))
        rows += [
            {
                "split": split,
                "source": name,
                "documents": int((codes == code).sum()),
                "bytes": available[code],
                "chosen_documents": int(mask[codes == code].sum()),
                "chosen_bytes": int(num_bytes[mask & (codes == code)].sum()),
                "target_bytes": target,
            }
            for code, name in enumerate(names)
        ]
    return pl.concat(chosen).select("doc_id", "split", "source"), rows


def _ids(frame: pl.DataFrame) -> Any:
    return frame["doc_id"].to_arrow().cast(pa.binary()).cast(pa.binary(16))


def _write_draws(
    workspace: Workspace,
    train: pl.DataFrame,
    domains: np.ndarray,
    codes: np.ndarray,
    drawn: Sequence[Draws],
) -> list[Shard]:
    """Write one row for each document and phase that draws it."""
    frames = []
    for number, one in enumerate(drawn):
        rows = np.flatnonzero(one.copies)
        mine = train.select("doc_id", "tokens")[rows]
        frames.append(
            mine.with_columns(
                phase=pl.lit(number, pl.Int16),
                domain=pl.Series(domains[codes[rows]], dtype=pl.String),
                copies=pl.Series(one.copies[rows], dtype=pl.Int32),
            )
        )
    return _write(workspace, "draws", pl.concat(frames))


def _write(workspace: Workspace, table: str, frame: pl.DataFrame) -> list[Shard]:
    with workspace.writer(table) as writer:
        writer.write(frame.select(SCHEMAS[table].names).to_arrow().cast(SCHEMAS[table]))
        return [writer.commit()]


def _total(drawn: Sequence[Draws], codes: np.ndarray, total: np.ndarray) -> list[dict[str, Any]]:
    """Return one row per domain over all phases; what is asked is null where units differ."""
    if len(drawn) == 1:
        return drawn[0].rows
    rows: list[dict[str, Any]] = []
    for place, (first, *others) in enumerate(zip(*(one.rows for one in drawn), strict=True)):
        mine = [first, *others]
        asked = [row["asked_tokens"] for row in mine]
        realised = sum(row["realised_tokens"] for row in mine)
        have = first["available_tokens"]
        rows.append(
            {
                "domain": first["domain"],
                "documents": first["documents"],
                "drawn_documents": int((total[codes == place] > 0).sum()),
                "available_tokens": have,
                "asked_tokens": None if None in asked else sum(asked),
                "realised_tokens": realised,
                "epochs": realised / have if have else None,
            }
        )
    for column in ("asked", "realised"):
        values = [row[f"{column}_tokens"] for row in rows]
        whole = None if None in values else max(sum(values), 1)
        for row, value in zip(rows, values, strict=True):
            row[f"{column}_share"] = None if whole is None else value / whole
    return rows
