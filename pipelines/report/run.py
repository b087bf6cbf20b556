"""A training run as a page: what it read, how its losses fell, and which documents stood out.

The page is a function of the run's own files and, where it is at hand, of its corpus; it needs no
script and no network, and nothing in it depends on the clock. A run that is going on, or that an
alarm has stopped, is told as far as it came.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError, IntegrityError
from pipelines.corpus import Corpus, open_corpus
from pipelines.report.run_documents import documents
from pipelines.report.run_plots import plot, thinned
from pipelines.report.run_task import held_rows, pictures_of, series_of, task_of
from pipelines.runs import FoundRun, metrics_of
from pipelines.store import Store
from train.config import TrainConfig

__all__ = ["corpus_of", "render_run", "run_data", "write_run_report"]

RUN_FORMAT = 1
_MEASURED = ("learning_rate", "grad_norm", "tokens_per_s", "mfu")
_BASELINES = ("model", "unigram", "bigram")
_COUNTING = ("unigram", "bigram", "5-gram")
_MANY_EPOCHS = 4  # repeats cost little up to here (Muennighoff et al. 2023)
_OVERFIT = 1.01


def write_run_report(run: FoundRun, store: Store | None, out: Path | None = None) -> Path:
    """Write a run's page, beside the run unless told otherwise; return its path.

    Args:
        run: the run.
        store: where its corpus may be; without it the page has no texts and no mixture.
        out: the file.
    """
    path = run.folder / "report.html" if out is None else out
    page = render_run(run_data(run, corpus_of(run, store)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def corpus_of(run: FoundRun, store: Store | None) -> Corpus | None:
    """Return the version that a run trains on, if it is in the store."""
    if store is None:
        return None
    try:
        corpus = open_corpus(run.corpus, store=store)
    except (InputError, IntegrityError):
        return None
    return corpus if run.reads(corpus.version) else None


def run_data(run: FoundRun, corpus: Corpus | None) -> dict[str, Any]:
    """Return everything that the page tells, as JSON values."""
    lines, result, told = metrics_of(run.folder), run.result, run.told()
    config = TrainConfig.from_mapping(run.content["config"])
    steps = told["steps"] or max(told["step"], 1)
    task = task_of(run.content, lines, result)
    step_rows = config.rows_per_step(run.content["row_tokens"])
    step_tokens = step_rows * run.content["row_tokens"]
    data: dict[str, Any] = {
        "format": RUN_FORMAT,
        "run": {name: told[name] for name in ("run", "corpus", "state", "step", "steps", "alarm")},
        "task": task,
        "read": told["step"] * (step_tokens if task["things"] == "text" else step_rows),
        "skipped": max([0, *(int(line.get("skipped") or 0) for line in lines)]),
        "result": result,
        "curves": _curves(lines, _measure(task)) | series_of(lines),
        "phases": _phases(run, step_rows, steps),
        "held_out": _held_out(run, result),
        "held_rows": held_rows(result),
        "sources": _sources(run, lines, result, corpus, _measure(task)),
        "documents": documents(run, corpus),
        "lineage": _lineage(run, step_rows, task),
        "settings": run.content["config"],
        "corpus_report": None if corpus is None else _corpus_report(run, corpus),
    }
    data["alerts"] = _alerts(data)
    return data


def _measure(task: Mapping[str, Any]) -> str:
    """Return the key of what sources are compared in."""
    return "bits_per_byte" if task["next_token"] else "nats"


def _curves(lines: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Any]:
    """Return name -> thinned points; `sources` and `held_out_sources` by name of source."""

    def of(key: str) -> list[list[float]]:
        return thinned([(x["step"], x[key]) for x in lines if x.get(key) is not None])

    def by_source(key: str) -> dict[str, list[list[float]]]:
        names = dict.fromkeys(name for line in lines for name in line.get(key, ()))
        return {
            name: thinned(
                [
                    (line["step"], line[key][name][measure])
                    for line in lines
                    if line.get(key, {}).get(name, {}).get(measure) is not None
                ]
            )
            for name in names
        }

    told = (line for line in reversed(lines) if line.get("tokens_per_s") is not None)
    last: Mapping[str, Any] = next(told, {})
    return {
        **{
            name: of(name)
            for name in ("loss", "bits_per_byte", "held_out_nats", "held_out_bits_per_byte")
        },
        **{name: of(name) for name in _MEASURED},
        "sources": by_source("sources"),
        "held_out_sources": by_source("held_out_sources"),
        "last": {
            name: last.get(name)
            for name in ("mean_loss", "bits_per_byte", "tokens_per_s", "mfu", "metrics")
        },
    }


def _phases(run: FoundRun, batch_rows: int, steps: int) -> list[dict[str, Any]]:
    """Return where the mixture changes, or, where it never does, where a new epoch begins."""
    content = run.content
    phases = content.get("phases") or [{"first_row": 0, "plan": "train", "epoch": 0}]
    if len(phases) > 1:
        return [
            {"step": phase["first_row"] // batch_rows + 1, "label": phase["plan"]}
            for phase in phases[1:]
        ]
    rows = sum(entry["rows"] for entry in content["plans"][phases[0]["plan"]])
    epochs = steps * batch_rows // max(rows, 1)
    return [
        {"step": epoch * rows // batch_rows + 1, "label": f"epoch {epoch + 1}"}
        for epoch in range(1, epochs + 1)
        if epochs <= 5
    ]


def _held_out(run: FoundRun, result: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return tables of held-out bits per byte: evaluations of these weights, or the run's own."""
    found = []
    for path in sorted(run.folder.glob("evaluation-*.json")):
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
            rows = [*one["sources"].items(), ("all", one["all"])]
            about, protocol = f"the {one['split']} split", str(one.get("protocol", ""))
            found.append({**_scores(about, one["scorers"], rows), "protocol": protocol})
        except (OSError, ValueError, KeyError, TypeError):
            continue  # written by another version, or just now
    own = (result or {}).get("held_out")
    if not found and own and "model" in own:
        names = [name for name in _BASELINES if name in own]
        found = [_scores("the validation split", names, [*own["sources"].items(), ("all", own)])]
    return found


def _scores(
    about: str, scorers: Sequence[str], rows: Sequence[tuple[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    told = [
        {
            "source": source,
            "documents": part["documents"],
            "bytes": part.get("bytes"),
            "bits": [(part.get(name) or {}).get("bits_per_byte") for name in scorers],
            "difference": part.get("difference"),
            "standard_error": part.get("standard_error"),
        }
        for source, part in rows
    ]
    return {"about": about, "protocol": "", "scorers": list(scorers), "rows": told}


def _sources(
    run: FoundRun,
    lines: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any] | None,
    corpus: Corpus | None,
    measure: str,
) -> list[dict[str, Any]]:
    """Return a row per source: what was asked and trained of it, and its loss first and last."""
    trained: dict[str, int] = dict.fromkeys(run.content["sources"], 0)
    first: dict[str, Any] = {}
    last: dict[str, Any] = {}
    held: dict[str, Any] = {}
    for line in lines:
        for name, one in line.get("sources", {}).items():
            trained[name] = trained.get(name, 0) + int(one["targets"])
            first.setdefault(name, one.get(measure))
            last[name] = one.get(measure)
        for name, one in line.get("held_out_sources", {}).items():
            held[name] = one.get(measure)
    for name, one in (((result or {}).get("held_out") or {}).get("sources") or {}).items():
        held[name] = one["loss"] if "loss" in one else (one.get("model") or {}).get(measure)
    asked = _asked(corpus)
    whole = sum(trained.values())
    return [
        {
            "source": name,
            "tokens": count,
            "share": count / whole if whole else None,
            "asked": asked.get(name, {}).get("asked_share"),
            # What another task predicts are not the tokens that are there.
            "epochs": _ratio(count, asked.get(name, {}).get("available_tokens"))
            if measure == "bits_per_byte"
            else None,
            "first": first.get(name),
            "last": last.get(name),
            "held_out": held.get(name),
        }
        for name, count in trained.items()
    ]


def _ratio(count: int, available: int | None) -> float | None:
    return count / available if available else None


def _asked(corpus: Corpus | None) -> dict[str, Mapping[str, Any]]:
    """Return what the mixture asked of each source; nothing where its domains are no sources."""
    if corpus is None:
        return {}
    mixed = corpus.manifest("mix")
    if mixed.settings["mix"].get("domains", "source") != "source":
        return {}
    return {row["domain"]: row for row in mixed.info["domains"]}


def _lineage(run: FoundRun, step_rows: int, task: Mapping[str, Any]) -> list[list[str]]:
    """Return [what, value] pairs: all that went into the run."""
    content = run.content
    settled = _read(run.folder / "resolved.json")
    config = TrainConfig.from_mapping(content["config"])
    initial, checks = content.get("initial"), content.get("checks")
    seed = config.seed if config.seed is not None else content["seed"]
    rows = [
        ("Corpus", f"{run.corpus}, {content['corpus']['fingerprint']}"),
        ("Recipe", content["corpus"].get("recipe")),
        *_tokenizer(content.get("tokenizer")),
        *(
            (f"Plan {name}", ", ".join(str(entry["sha256"])[:16] for entry in entries))
            for name, entries in content["plans"].items()
        ),
        ("Checks", _checks(checks)),
        ("Weights at the start", initial and str(initial.get("sha256", initial))),
        ("Seed", str(seed)),
        ("Objective", config.objective),
        ("Model", f"{config.architecture}, depth {config.depth}, width {config.model_width}"),
        ("Step", _step(step_rows, content["row_tokens"], task)),
        ("Optimizer", f"{settled.get('optimizer', config.optimizer)}, {config.schedule}"),
        (
            "Device",
            ", ".join(str(settled[k]) for k in ("device", "dtype", "attention") if k in settled),
        ),
    ]
    return [[name, value] for name, value in rows if value]


def _step(rows: int, row_tokens: int, task: Mapping[str, Any]) -> str:
    if task["things"] == "text":
        return f"{rows * row_tokens:,} tokens in rows of {row_tokens:,}"
    if task["things"] == "pairs":
        return f"{rows:,} pairs"
    return f"{rows:,} {task['things']} of up to {row_tokens:,} {task['units']}"


def _tokenizer(entry: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return what is told of a run's tokenizer; images and sounds have none."""
    if not entry:
        return []
    return [("Tokenizer", entry["sha256"]), ("Vocabulary", f"{entry['vocab_size']:,} ids")]


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _checks(checks: Mapping[str, Any] | None) -> str:
    if not checks:
        return "none were in force"
    failed = checks.get("failed")
    return f"FAILED, {', '.join(failed)}: {checks.get('despite')}" if failed else "all passed"


def _corpus_report(run: FoundRun, corpus: Corpus) -> str | None:
    """Return the relative address of the corpus's report, where both lie in one store."""
    storage = corpus.store.storage
    if not storage.is_local:
        return None
    page = Path(storage.full(f"reports/{run.corpus}.html")).resolve()
    home = Path(storage.full("runs")).resolve()
    leads = page.is_file() and run.folder.resolve().parent == home
    return f"../../reports/{page.name}" if leads else None


def _alerts(data: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what is worth a look first: {level, text, section}, warnings first."""
    found: list[tuple[str, str, str]] = []
    run, held = data["run"], data["curves"]["held_out_nats"]
    if run["state"] == "stopped":
        found.append(("warning", f"An alarm stopped this run: {run['alarm']}", "loss"))
    elif run["state"] != "finished":
        of = "" if run["steps"] is None else f" of {run['steps']:,}"
        text = f"The run is at step {run['step']:,}{of}; the same command goes on with it."
        found.append(("note", text, "loss"))
    if data["skipped"]:
        many = f"{data['skipped']:,} update{'s' if data['skipped'] > 1 else ''}"
        found.append(("warning", f"{many} left out: gradients that were not finite.", "machine"))
    for table in data["held_out"]:
        names = table["scorers"]
        for row in table["rows"]:
            bits = dict(zip(names, row["bits"], strict=True))
            counted = [(bits[n], n) for n in _COUNTING if bits.get(n) is not None]
            if counted and bits.get("model") is not None and min(counted)[0] < bits["model"]:
                level = "warning" if row["source"] == "all" else "note"
                where = "all held-out text" if level == "warning" else row["source"]
                text = f"On {where} a {min(counted)[1]} model, which only counts, predicts better."
                found.append((level, text, "held_out"))
    rows = data["held_rows"]
    if rows and rows["chance"] and rows["rows"][-1]["loss"] >= rows["chance"]:
        text = f"Held-out {data['task']['things']} cost as much as knowing nothing would."
        found.append(("warning", text, "held_out"))
    if len(held) > 2 and held[-1][1] > _OVERFIT * min(p[1] for p in held):
        best = min(held, key=lambda p: p[1])
        text = f"Held-out loss was lowest near step {best[0]:,.0f} and has risen since."
        found.append(("warning", text, "loss"))
    for row in data["sources"]:
        if row["epochs"] is not None and row["epochs"] > _MANY_EPOCHS:
            text = f"{row['source']} was read {row['epochs']:.1f} times: repeats teach less."
            found.append(("note", text, "sources"))
    risen = (data["documents"] or {}).get("risen_count", 0)
    if risen:
        many = f"{risen:,} document{'s' if risen > 1 else ''}"
        found.append(("note", f"{many} cost more when read again than before.", "documents"))
    found.sort(key=lambda one: one[0] != "warning")
    return [dict(zip(("level", "text", "section"), one, strict=True)) for one in found]


def render_run(data: Mapping[str, Any]) -> str:
    """Return the page for a run's data."""
    from pipelines.pages import render_page

    return render_page("run.html.j2", {**data, "pictures": _pictures(data)}, "run.css")


def _pictures(data: Mapping[str, Any]) -> dict[str, Any]:
    curves, last = data["curves"], data["run"]["steps"] or max(data["run"]["step"], 2)
    marks: list[dict[str, Any]] = data["phases"]

    task = data["task"]
    chance = task["chance"]
    knowing_nothing = {} if chance is None else {"knowing nothing": float(chance)}
    counted = {}
    for table in data["held_out"][:1]:
        bits = dict(zip(table["scorers"], table["rows"][-1]["bits"], strict=True))
        counted = {f"{k} on held-out text": bits[k] for k in _BASELINES[1:] if bits.get(k)}

    def lines(train: Any, held: Any, *, with_band: bool = False) -> list[dict[str, Any]]:
        return [
            {"kind": "train", "points": train, "with_band": with_band},
            {"kind": "held", "points": held, "with_dots": True},
        ]

    names = [name for name in curves["sources"] if curves["sources"][name]]
    settled = [p[1] for n in names for p in curves["sources"][n] if p[0] > 0.04 * last]
    settled += [p[1] for points in curves["held_out_sources"].values() for p in points[1:]]
    shared = (min(settled, default=None), max(settled, default=None))
    return {
        "loss": plot(
            lines(curves["loss"], curves["held_out_nats"], with_band=True),
            last=last,
            marks=marks,
            rules=knowing_nothing,
            size="wide",
        ),
        "bits": plot(
            lines(curves["bits_per_byte"], curves["held_out_bits_per_byte"]),
            last=last,
            marks=marks,
            rules=counted,
            size="wide",
        ),
        **pictures_of(curves, task["shown"], last),
        "sources": {
            name: plot(
                lines(curves["sources"][name], curves["held_out_sources"].get(name, [])),
                last=last,
                limits=shared,
            )
            for name in names
            if task["next_token"] or len(names) > 1
        },
        **{
            name: plot(
                [{"kind": "train", "points": curves[name], "with_band": name == "grad_norm"}],
                last=last,
                limits=(0.0, None),
            )
            for name in _MEASURED
        },
    }
