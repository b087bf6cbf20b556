"""What a person reads of training runs: `runs`, `trace`, the table of feedback, `why`, the page."""

import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pytest
from typer.testing import CliRunner

from curate.corpus.errors import InputError
from curate.corpus.schema import schema_of
from pipelines.cli import app
from pipelines.corpus import Corpus, open_corpus
from pipelines.corpus import why as life_of
from pipelines.forget.exposure import exposures
from pipelines.report.run import run_data, write_run_report
from pipelines.report.run_plots import MAX_POINTS, plot, thinned
from pipelines.runs import find_run, runs_of
from pipelines.store import Store
from pipelines.tables import select
from pipelines.tracing import step_frame
from pipelines.training import prepare_run
from pipelines.watching import _Line, progress_text
from train.trace import Tracer

STEPS, DONE, EVERY = 30, 20, 4
SCRIPT = "</script><script>window.ran = 1</script> <img src=x onerror='window.ran = 1'> \u202e"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, lab: Any) -> Path:
    """A corpus of two sources, one read three times, and a run of it that stands at step 20."""
    base = tmp_path_factory.mktemp("runs")
    for name, first in (("books", 0), ("web", 200)):
        rows = [
            {"id": f"{name}{i}", "text": f"{SCRIPT} to jo@site.org {lab.text(first + i)}"}
            | ({"url": f"https://a.example/{i}"} if name == "web" else {})
            for i in range(15)
        ]
        lab.jsonl(base / f"{name}.jsonl", rows)
    sources = [{"name": name, "paths": [f"{name}.jsonl"]} for name in ("books", "web")]
    recipe = lab.recipe(
        base,
        sources=sources,
        clean={"redact": ["email"]},
        deduplicate={"near": None},
        mix={"budget": "5000 tokens", "weights": {"books": 0.5, "web": 0.5}, "repeat_cap": 3},
    )
    lab.run(recipe, base / "store")
    corpus = open_corpus("tiny", store=str(base / "store"))
    run = prepare_run(corpus, {"batch_rows": 6, "steps": STEPS, "eval_every": 10})
    _train(run, DONE)
    return base / "store"


def _train(run: Path, done: int, alarm: str | None = None) -> None:
    """Write what a trainer leaves: metrics and feedback, with a loss that falls."""
    tracer = Tracer.open(run)
    lines: list[dict[str, Any]] = []
    (run.parent / "feedback").mkdir(exist_ok=True)
    seen = np.zeros(len(tracer.shards.lengths), dtype=int)
    for first in range(1, done + 1, EVERY):
        rows: list[dict[str, Any]] = []
        for step in range(first, min(first + EVERY, done + 1)):
            rows += _measured(tracer, step, seen)
            loss = {"step": step, "loss": 4 - step / 20, "learning_rate": 0.1, "targets": 384}
            lines.append({**loss, "grad_norm": 1.0})
        bits = {"nats": 3.0, "bits_per_byte": 2 - first / 40, "targets": 700}
        lines[-1] |= {"mean_loss": 3.0, "bits_per_byte": 2.0, "tokens_per_s": 1e4, "mfu": None}
        lines[-1] |= {"eta_s": 9.0, "skipped": 1, "sources": {"books": bits, "web": bits}}
        held = {"nats": 3.1, "bits_per_byte": 2.1, "targets": 90}
        glance = {"held_out_nats": 3.1, "held_out_bits_per_byte": 2.1}
        lines.append({"step": lines[-1]["step"], **glance, "held_out_sources": {"books": held}})
        table = pa.Table.from_pylist(rows, schema_of("feedback"))
        name = f"feedback-{first:08d}-{min(first + EVERY - 1, done):08d}.arrow"
        with pa.ipc.new_file(str(run.parent / "feedback" / name), table.schema) as sink:
            sink.write_table(table)
    if alarm:
        lines[-1]["alarm"] = alarm
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.parent / "metrics.jsonl").write_text(text + '{"step": 99, "los')  # cut short


def _measured(tracer: Tracer, step: int, seen: Any) -> list[dict[str, Any]]:
    spans, run = tracer.step(step), tracer.run
    seen += np.bincount(spans.ordinals, minlength=len(seen))
    ids = tracer.shards.column("doc_id", spans.ordinals).to_pylist()
    sums: dict[int, dict[str, Any]] = {}
    for i, ordinal in enumerate(spans.ordinals.tolist()):
        row = sums.setdefault(
            ordinal,
            {
                "run": run.id,
                "corpus": "tiny@1",
                "mixture": "0" * 16,
                "step": step,
                "source": run.sources[spans.sources[i]],
                "doc_id": ids[i],
                "tokens": 0,
                "bytes": 0,
                "times_seen": int(seen[ordinal]),
            },
        )
        row["tokens"] += int(spans.lengths[i])
        row["bytes"] += 3 * int(spans.lengths[i])
    for ordinal, row in sums.items():
        fall = -1 if ordinal % 3 == 0 else 1  # of some documents the loss rises
        row["loss_sum"] = row["tokens"] * (4 - fall * step / 20 + ordinal / 100)
    return list(sums.values())


@pytest.fixture
def corpus(store: Path) -> Corpus:
    return open_corpus("tiny", store=str(store))


def call(store: Path, *arguments: str) -> str:
    """Run a command; return what it printed."""
    result = CliRunner().invoke(
        app, list(arguments), env={"PRECEPTOR_STORE": str(store), "COLUMNS": "200"}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def asked(store: Path, *arguments: str) -> Any:
    return json.loads(call(store, *arguments, "--json"))


def test_runs_are_told_as_far_as_they_came(store: Path, tmp_path: Path) -> None:
    (row,) = asked(store, "runs", "tiny@1")
    assert (row["state"], row["step"], row["steps"]) == ("step", DONE, STEPS)
    assert "step 20 of 30" in call(store, "runs")
    shutil.copytree(row["folder"], tmp_path / "other")
    (tmp_path / "other" / "metrics.jsonl").unlink()
    assert len(asked(store, "runs", "tiny", "--runs", str(tmp_path))) == 2
    new = find_run(str(tmp_path / "other"), store=Store(str(store))).told()
    assert (new["state"], new["step"], new["held_out_bits_per_byte"]) == ("new", 0, None)
    result = {"steps": STEPS, "held_out": {"model": {"bits_per_byte": 1.5}}}
    (tmp_path / "other" / "result.json").write_text(json.dumps(result))
    done = find_run(str(tmp_path / "other" / "run.json"), store=Store(str(store))).told()
    assert (done["state"], done["held_out_bits_per_byte"]) == ("finished", 1.5)
    assert "no runs" in call(tmp_path / "nothing", "runs")


def test_a_run_is_found_by_the_beginning_of_its_id_or_refused(store: Path) -> None:
    opened = Store(str(store))
    (run,) = runs_of(opened)
    assert find_run(run.id[:3], store=opened).path == run.path
    for wrong in ("", "zz", run.id + "0", str(store / "missing")):
        with pytest.raises(InputError, match=f"there are: {run.id}"):
            find_run(wrong, store=opened)
    (run.folder.parent / f"{run.id[:8]}x").mkdir()
    copy = run.folder.parent / f"{run.id[:8]}x" / "run.json"
    copy.write_text(json.dumps({**run.content, "id": f"{run.id[:8]}x"}))
    with pytest.raises(InputError, match="begins 2 ids"):
        find_run(run.id[:8], store=opened)
    copy.write_text("{")
    assert find_run(run.id[:8], store=opened).path == run.path
    shutil.rmtree(copy.parent)


def test_the_spans_of_a_step_fill_its_rows_and_have_names(store: Path, corpus: Corpus) -> None:
    run = runs_of(Store(str(store)))[0].id[:6]
    told = asked(store, "trace", run, "3")
    assert told["trained"]
    assert not asked(store, "trace", run, str(STEPS))["trained"]
    assert [row["row"] for row in told["rows"]] == list(range(6))
    documents = {row["doc_id"]: row for row in corpus.table("documents").collect().to_dicts()}
    for row in told["rows"]:
        end = 0
        for span in row["spans"]:
            assert span["position"] == end
            end += span["length"]
            document = documents[span["doc_id"]]
            assert [span[k] for k in ("source", "key", "url")] == [
                document[k] for k in ("source", "key", "url")
            ]
            assert 1 <= span["copy"] <= span["copies"] <= 3
            assert span["nats"] > 3
        assert end <= 64
    (one,) = asked(store, "trace", run, "3", "--row", "2")["rows"]
    assert one == told["rows"][2]
    assert "of run" in call(store, "trace", run, "3")


def test_a_document_is_traced_to_the_steps_that_read_it(store: Path, corpus: Corpus) -> None:
    found = runs_of(Store(str(store)))[0]
    tracer = Tracer.open(found.path)
    places: dict[str, list[tuple[int, ...]]] = {}
    for step in range(1, STEPS + 1):
        frame = step_frame(tracer, found, step, None)
        for span in frame.iter_rows(named=True):
            place = (step, *(span[k] for k in ("row", "position", "length", "copy")))
            places.setdefault(span["doc_id"], []).append(place)
    assert max(map(len, places.values())) > 3
    for doc_id, wanted in list(places.items())[:2]:
        told = asked(store, "trace", found.id, "--document", doc_id[:12])
        keys = ("step", "row", "position", "length", "copy")
        assert [tuple(p[k] for k in keys) for p in told["places"]] == wanted
        (exposed,) = exposures([found.path], {bytes.fromhex(doc_id)})
        assert exposed["steps"] == sorted({p[0] for p in wanted if p[0] <= DONE})
        (training,) = life_of(corpus, doc_id)["training"]
        assert (training["num_steps"], training["steps_done"]) == (len(exposed["steps"]), DONE)
    held_out = corpus.table("verdicts").filter(pl.col("split") != "train").collect()["doc_id"][0]
    assert "none of its 30 steps" in call(store, "trace", found.id, "--document", held_out)


def test_a_trace_is_written_as_a_table_is(store: Path, tmp_path: Path) -> None:
    run = runs_of(Store(str(store)))[0].id
    for suffix, read in (("csv", pl.read_csv), ("jsonl", pl.read_ndjson)):
        out = tmp_path / f"t.{suffix}"
        call(store, "trace", run, "3", "--out", str(out))
        assert read(out)["length"].sum() == pytest.approx(6 * 64, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["31"], "has 30 steps"),
        ([], "say which"),
        (["3", "--document", "0000"], "say which"),
        (["3", "--row", "6"], "rows 0 to 5"),
        (["--document", "xyz1"], "hexadecimal"),
        (["--document", "00000000000000000000"], "no document"),
        (["3", "--out", "a.txt"], "suffix"),
    ],
)
def test_what_cannot_be_traced_is_said(store: Path, arguments: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        call(store, "trace", runs_of(Store(str(store)))[0].id, *arguments)


def test_feedback_is_a_table_of_its_corpus_and_stands_beside_others(
    store: Path, corpus: Corpus, tmp_path: Path
) -> None:
    frame = corpus.table("feedback").collect()
    assert frame.height == len(frame.select("step", "doc_id").unique())
    assert frame["step"].max() == DONE
    row = frame.row(0, named=True)
    assert row["nats"] == pytest.approx(row["loss_sum"] / row["tokens"])
    assert row["bits_per_byte"] == pytest.approx(row["loss_sum"] / math.log(2) / row["bytes"])
    out = tmp_path / "joined.parquet"
    condition = "kept AND num_words > 10 AND bits_per_byte > 1"
    call(
        store, "table", "tiny", "feedback", "--with", "signals,verdicts", "--where", condition,
        "--out", str(out),
    )  # fmt: skip
    joined = pl.read_parquet(out)
    assert joined.height == frame.filter(pl.col("bits_per_byte") > 1).height
    words = dict(corpus.table("signals").select("doc_id", "num_words").collect().iter_rows())
    assert all(words[r["doc_id"]] == r["num_words"] for r in joined.iter_rows(named=True))
    assert {"source", "split", "verdicts_num_bytes"} <= set(joined.columns)
    each = select(
        "tiny", "signals", where="feedback_readings >= 1", store=str(store), beside="feedback"
    ).collect()
    assert set(each["doc_id"]) == set(frame["doc_id"])
    sums = frame.group_by("doc_id").agg(pl.col("loss_sum", "tokens").sum())
    nats = {r["doc_id"]: r["loss_sum"] / r["tokens"] for r in sums.iter_rows(named=True)}
    assert dict(each.select("doc_id", "feedback_nats").iter_rows()) == pytest.approx(nats)
    for wrong in ("nope", "draws"):
        with pytest.raises(InputError, match="one row per document"):
            call(store, "table", "tiny", "feedback", "--with", wrong)
    with pytest.raises(InputError, match="has none"):
        call(store, "table", "tiny", "lines", "--with", "signals")


def test_why_tells_what_a_document_cost(store: Path, corpus: Corpus) -> None:
    row = corpus.table("feedback").sort("step").head(1).collect().to_dicts()[0]
    text = call(store, "why", "tiny", row["doc_id"])
    assert re.search(rf"training +run {row['run']} on tiny@1: read in \d+ steps of 20: 1", text)
    assert f"step 1: {row['nats']:.3f} nats a token (its source " in text


def _page(data: Mapping[str, Any]) -> str:
    from pipelines.report.run import render_run

    return render_run(data)


def _check_risen(run: Any, documents: Mapping[str, Any]) -> None:
    """Assert that the risen documents are those a replay finds: one piece, read again, for more."""
    tracer = Tracer.open(run.path)
    times: dict[tuple[int, int, int], int] = {}
    for step in range(1, DONE + 1):
        spans = tracer.step(step)
        for i in np.flatnonzero(np.bincount(spans.ordinals)[spans.ordinals] == 1).tolist():
            key = int(spans.ordinals[i]), int(spans.starts[i]), int(spans.lengths[i])
            times[key] = times.get(key, 0) + (key[2] >= 64 and key[0] % 3 == 0)
    wanted = {key[0] for key, number in times.items() if number > 1}
    assert len(wanted) == documents["risen_count"] > 0
    for row in documents["risen"]:
        assert tracer.find(row["doc_id"])[0] in wanted
        assert row["last_nats"] > row["first_nats"]


def test_the_page_of_a_run_tells_its_numbers_and_runs_nothing(
    store: Path, corpus: Corpus, tmp_path: Path
) -> None:
    run = runs_of(Store(str(store)))[0]
    page = write_run_report(run, Store(str(store)), tmp_path / "page.html").read_text()
    assert page == write_run_report(run, Store(str(store)), tmp_path / "page.html").read_text()
    data = run_data(run, corpus)
    assert sum(row["tokens"] for row in data["sources"]) == 5 * 2 * 700
    assert [row["asked"] for row in data["sources"]] == [0.5, 0.5]
    assert "step 20 of 30" in page
    assert "1 update left out" in page
    assert "<script" not in page
    assert "site.org" not in page
    assert "&lt;/script&gt;" in page
    assert "U+202E" in page
    assert re.findall(r'(?:src|href)="(?!#|\.\./)[^"]*"', page) == []
    documents = data["documents"]
    above = [row["above"] for row in documents["highest"]]
    assert above == sorted(above, reverse=True)
    assert documents["lowest"][0]["above"] < 0 < above[0]
    _check_risen(run, documents)
    call(store, "report", "--run", run.id[:5], "--out", str(tmp_path / "again.html"))
    assert (tmp_path / "again.html").read_text() == page
    with pytest.raises(InputError, match="leave out"):
        call(store, "report", "tiny", "--run", run.id)
    without = _page(run_data(run, None))
    assert SCRIPT[:9] not in without
    assert run.id in without


def test_the_served_store_leads_to_its_runs(store: Path) -> None:
    from starlette.testclient import TestClient

    from pipelines.serving.app import make_app

    (run,) = runs_of(Store(str(store)))
    client = TestClient(make_app(Store(str(store)), 80), base_url="http://localhost")
    assert f'href="/run/{run.id}"' in client.get("/").text
    answer = client.get(f"/run/{run.id}")
    assert answer.status_code == 200
    assert 'href="/corpus/tiny@1/report"' in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    doc_id = open_corpus("tiny", store=str(store)).table("feedback").collect()["doc_id"][0]
    assert run.id in client.get(f"/corpus/tiny@1/why/{doc_id}").text
    for wrong in (run.id[:8], "%2e%2e", "run.json"):
        assert client.get(f"/run/{wrong}").status_code == 404


def test_an_alarm_is_told_on_the_page_and_in_the_list(store: Path, tmp_path: Path) -> None:
    (run,) = runs_of(Store(str(store)))
    shutil.copytree(run.folder, tmp_path / "stopped")
    _train(tmp_path / "stopped" / "run.json", 9, alarm="step 9: the loss <jumped>")
    stopped = find_run(str(tmp_path / "stopped"), store=Store(str(store)))
    assert stopped.told()["alarm"] == "step 9: the loss <jumped>"
    assert "the loss <jumped>" in call(store, "runs", "--runs", str(tmp_path))
    assert "step 9: the loss &lt;jumped&gt;" in _page(run_data(stopped, None))


def test_what_was_measured_on_held_out_text_is_told_with_its_baselines(
    store: Path, tmp_path: Path
) -> None:
    (run,) = runs_of(Store(str(store)))
    shutil.copytree(run.folder, tmp_path / "done")
    bits = {"model": 2.0, "bigram": 1.75, "unigram": 3.0}
    part = {"documents": 4, **{name: {"bits_per_byte": value} for name, value in bits.items()}}
    own = {**part, "difference": 0.25, "standard_error": 0.01, "sources": {"books": part}}
    facts = {"steps": STEPS, "parameters": 7, "dtype": "float32", "device": "cpu", "sample": SCRIPT}
    result = {**facts, "training_seconds": 7500.0, "chance_nats": 5.7, "held_out": own}
    (tmp_path / "done" / "result.json").write_text(json.dumps(result))
    page = _page(run_data(find_run(str(tmp_path / "done"), store=Store(str(store))), None))
    assert "2.1 hours" in page
    assert "On all held-out text a bigram model, which only counts, predicts better." in page
    assert re.search(r"\+0.250 &plusmn; 0.010 to the bigram", page)
    assert "<script" not in page
    scores = {"split": "test", "scorers": ["model", "xz"], "protocol": "each <alone>"}
    text = json.dumps({**scores, "all": part, "sources": {"books": part}})
    (tmp_path / "done" / "evaluation-test.json").write_text(text)
    (tmp_path / "done" / "evaluation-bad.json").write_text("{")
    page = _page(run_data(find_run(str(tmp_path / "done"), store=Store(str(store))), None))
    assert "the test split" in page
    assert "each &lt;alone&gt;" in page


def test_a_page_is_made_of_a_run_that_has_only_begun(store: Path, tmp_path: Path) -> None:
    (run,) = runs_of(Store(str(store)))
    (tmp_path / "new").mkdir()
    shutil.copy(run.path, tmp_path / "new")
    new = find_run(str(tmp_path / "new"), store=Store(str(store)))
    assert "No step has been measured yet" in _page(run_data(new, None))


def test_a_plot_keeps_the_extremes_of_many_steps() -> None:
    values = np.sin(np.arange(1, 10_001) / 50) + np.where(np.arange(1, 10_001) == 7777, 9, 0)
    points = thinned([[float(i + 1), float(v)] for i, v in enumerate(values)])
    assert len(points) == MAX_POINTS
    assert max(p[3] for p in points) == pytest.approx(values.max(), rel=1e-3)
    assert np.mean([p[1] for p in points]) == pytest.approx(values.mean(), abs=1e-3)
    assert plot([{"kind": "train", "points": []}], last=3) is None
    one = plot([{"kind": "train", "points": thinned([[1, 2.0]])}], last=1)
    assert one is not None
    assert one["lines"][0]["dots"]
    assert "nan" not in json.dumps(one)


def test_the_progress_line_fits_a_terminal_and_a_pipe_gets_plain_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = {"mean_loss": 3.8166, "bits_per_byte": 1.68617, "tokens_per_s": 123456.7}
    metrics |= {"mfu": 0.418, "eta_s": 86_000.0, "skipped": 0}
    assert len(progress_text(metrics)) <= 64
    from rich.console import Console

    plain = _Line(Console(force_terminal=False, width=80))
    with plain as line:
        line.observe(5, 10, metrics)
        line.observe(6, 10, metrics)  # too soon to be told
        line.observe(10, 10, metrics)
        line.observe(10, 10, {"held_out_nats": 2.0, "held_out_bits_per_byte": None})
        line.observe(10, 10, {"held_out_nats": None, "held_out_bits_per_byte": None})
    said = capsys.readouterr().out.splitlines()
    begun = [text.partition(":")[0] for text in said]
    assert begun == ["step 5 of 10", "step 10 of 10", "step 10", "step 10"]
    assert "not finite" in said[-1]
