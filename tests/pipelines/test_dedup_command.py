"""`preceptor dedup` from outside: what it says, what it refuses, what an interrupt leaves."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.dedup import stream
from pipelines import cli

ROOT = Path(__file__).resolve().parents[2]


def _text(seed, words=60):
    draw = random.Random(seed)
    return " ".join(f"w{draw.randrange(10_000)}" for _ in range(words))


@pytest.fixture
def source(tmp_path):
    texts = [_text(0), _text(0), None, None, _text(1)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line; return its exit code, output and errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["preceptor", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return call


def test_the_line_tells_the_rows_without_text(command, source, tmp_path):
    code, out, _ = command("dedup", source, "--out", tmp_path / "out")
    assert not code
    assert "4 of 5 documents kept" in out
    assert "2 rows without text stay" in out
    assert "crowded" not in out


def test_the_line_tells_when_a_crowd_was_too_much(command, source, tmp_path, monkeypatch):
    def unreached(*arguments, **options):
        crowds = real(*arguments, **options)
        crowds.more = lambda *_: setattr(crowds, "unreached", 12) or ([], [])
        return crowds

    real = stream.Crowds
    monkeypatch.setattr(stream, "Crowds", unreached)
    _, out, _ = command("dedup", source, "--out", tmp_path / "out")
    assert "12 documents of crowded buckets" in out


@pytest.mark.parametrize(
    "option",
    [
        ("--threshold", "0"),
        ("--threshold", "1.5"),
        ("--threshold", "-1"),
        ("--threshold", "nan"),
        ("--shingle", "0 words"),
        ("--shingle", "101 words"),
        ("--shingle", "99999999999999 words"),
        ("--shingle", "five words"),
        ("--shingle", "5 bytes"),
        ("--text", "body"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_two_lines_at_most(
    command, source, tmp_path, option
):
    code, out, err = command("dedup", source, "--out", tmp_path / "out", *option)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) <= 2
    assert option[0] in err or "no column" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option", [("--threshold", "0.01"), ("--threshold", "1"), ("--shingle", "100 characters")]
)
def test_the_ends_of_the_ranges_are_allowed(command, source, tmp_path, option):
    code, _, err = command("dedup", source, "--out", tmp_path / "out", *option)
    assert not code, err


def test_an_interrupt_leaves_nothing_and_says_so(command, source, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stream, "_write_edges", interrupt)
    code, out, err = command("dedup", source, "--out", tmp_path / "out")
    assert (code, out, err) == (130, "", "interrupted; nothing was written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_the_signal_of_a_keyboard_ends_the_process_like_that(source, tmp_path):
    """The command sends it to itself, in the middle of writing."""
    program = (
        "import os, signal, sys\n"
        "from curate.dedup import stream\n"
        "from pipelines import cli\n"
        "write = stream.write_rows\n"
        "def writes(*arguments):\n"
        "    write(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "stream.write_rows = writes\n"
        # A shell's background jobs ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.main()\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", program, "dedup", str(source), "--out", tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (130, "interrupted; nothing was written\n")
    assert not (tmp_path / "out").exists()
