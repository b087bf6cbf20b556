"""Files are found by name, binned without disturbing each other, and read whole or not at all."""

import bz2
import contextlib
import functools
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import InputFile, Slice
from curate.readers.discover import expand, group, open_stream, sniff, unreadable
from curate.readers.registry import reader_named

# --- streams -----------------------------------------------------------------------------------


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstd,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
CONTENT = b"".join(b'{"id": %d, "text": "line %d"}\n' % (i, i * 7919) for i in range(4000))


def written(folder: Path, name: str, data: bytes) -> InputFile:
    path = folder / name
    path.write_bytes(data)
    return expand([name], str(folder))[0]


@pytest.mark.parametrize("compression", PACKERS)
def test_a_file_of_several_members_is_read_whole(tmp_path, compression):
    pack = PACKERS[compression]
    data = pack(CONTENT[:5000]) + pack(b"") + pack(CONTENT[5000:])
    file = written(tmp_path, "a.jsonl" + compression, data)
    with open_stream(file, compression) as stream:
        assert stream.read() == CONTENT
    with open_stream(file, compression) as stream:
        assert b"".join(iter(lambda: stream.read(777), b"")) == CONTENT


@pytest.mark.parametrize("compression", PACKERS)
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.3, 0.7, 0.99, 1.0])
def test_a_cut_file_yields_its_records_and_then_says_that_it_is_truncated(
    tmp_path, compression, share
):
    data = PACKERS[compression](CONTENT)
    cut = max(1, min(int(len(data) * share), len(data) - 1))
    file = written(tmp_path, "a.jsonl" + compression, data[:cut])
    opener = functools.partial(open_stream, file, compression, None)
    texts: list[str] = []

    def read() -> None:
        for batch in reader_named("jsonl").read(Slice(file), opener, {}):
            assert not batch.rejects
            texts.extend(batch.records["text"].to_pylist())

    with pytest.raises(UnreadableFileError, match="cut short") as caught:
        read()
    assert caught.value.reason == "truncated"
    assert texts == [f"line {i * 7919}" for i in range(len(texts))]
    assert str(tmp_path) not in str(caught.value)
    if share >= 0.99 and compression == ".gz":
        assert texts


@pytest.mark.parametrize("compression", PACKERS)
def test_a_second_member_that_is_cut_is_noticed(tmp_path, compression):
    data = PACKERS[compression](CONTENT[:100])
    for rest in (1, 3, 6, len(data) - 1):
        file = written(tmp_path, "a" + compression + ".txt", data + data[:rest])
        with open_stream(file, compression) as stream, pytest.raises(UnreadableFileError) as caught:
            stream.read()
        assert caught.value.reason == "truncated"


@pytest.mark.parametrize("compression", PACKERS)
def test_what_is_not_whole_has_a_reason(tmp_path, compression):
    good = PACKERS[compression](CONTENT)
    flipped = (
        good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 255]) + good[len(good) // 2 + 1 :]
    )
    for data, reasons in (
        (good + b"rubbish behind it", {"trailing_data"}),
        (b"", {"empty"}),
        (b"\n", {"not_gzip", "not_zstd", "not_bzip2", "not_xz"}),
        (b"this is plain text", {"not_gzip", "not_zstd", "not_bzip2", "not_xz"}),
        (flipped, {"corrupt", "truncated", "trailing_data"}),
    ):
        file = written(tmp_path, "x.txt", data)
        with pytest.raises(UnreadableFileError) as caught, open_stream(file, compression) as stream:
            stream.read()
        assert caught.value.reason in reasons


def test_padding_after_gzip_and_skippable_zstd_frames_are_allowed(tmp_path):
    file = written(tmp_path, "x.txt", gzip.compress(b"abc") + b"\0" * 512)
    with open_stream(file, ".gz") as stream:
        assert stream.read() == b"abc"
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    file = written(tmp_path, "x.txt", skippable + zstd(b"abc") + skippable)
    with open_stream(file, ".zst") as stream:
        assert stream.read() == b"abc"


def test_a_zstd_window_above_the_usual_limit_is_read(tmp_path):
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True, hash_log=12)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packer.compress(CONTENT) + packer.flush()  # no content size, so the window is written
    file = written(tmp_path, "x.txt", data)
    with open_stream(file, ".zst") as stream:
        assert stream.read() == CONTENT


@given(st.binary(max_size=200), st.sampled_from(sorted(PACKERS)))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data, compression):
    folder = tmp_path_factory.getbasetemp()
    for content in (data, PACKERS[compression](data)[:-1] + data[:3]):
        file = written(folder, "any.txt", content)
        with contextlib.suppress(UnreadableFileError), open_stream(file, compression) as stream:
            stream.read()


def test_a_missing_file_is_unreadable_without_its_machine_path(tmp_path):
    gone = InputFile(str(tmp_path / "x.txt"), "x.txt", 1, "")
    with pytest.raises(UnreadableFileError, match=r"^x\.txt cannot be read") as caught:
        open_stream(gone)
    assert caught.value.reason == "missing"


# --- expand ------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "data/a.jsonl",
        "data/b.jsonl.gz",
        "data/deep/er/c.txt",
        "data/deep/image.tiff",
        "data/.hidden/d.txt",
        "data/__pycache__/e.py",
        "other/a.jsonl",
        "pictures/x.png",
    ):
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "project"


def found(paths: list[str], base: Path, format: str | None = None) -> list[str]:
    return [file.path for file in expand(paths, str(base), format)]


def test_paths_may_be_files_folders_and_patterns(tree):
    everything = ["data/a.jsonl", "data/b.jsonl.gz", "data/deep/er/c.txt"]
    assert found(["data"], tree) == everything
    assert found(["data/"], tree, "jsonl") == everything[:2]
    assert found(["data/*.jsonl*", "data/a.jsonl"], tree) == everything[:2]
    assert found(["**/*.jsonl"], tree) == ["data/a.jsonl", "other/a.jsonl"]
    assert found(["data/**/c.txt"], tree) == ["data/deep/er/c.txt"]
    assert found(["*/[a]?jsonl", (tree / "data/a.jsonl").as_uri()], tree) == [
        "data/a.jsonl",
        "other/a.jsonl",
    ]
    assert found(["../project/data/a.jsonl"], tree) == ["data/a.jsonl"]
    assert found(["data/deep/*.tiff"], tree, "text") == ["data/deep/image.tiff"]


def test_files_elsewhere_are_named_by_their_folder_and_never_alike(tree):
    elsewhere = tree.parent / "recipes"
    assert found([str(tree / "data")], elsewhere) == [
        "data/a.jsonl",
        "data/b.jsonl.gz",
        "data/deep/er/c.txt",
    ]
    more = tree.parent / "second" / "data" / "a.jsonl"
    more.parent.mkdir(parents=True)
    more.write_text("x")
    names = found([str(tree / "data/a.jsonl"), str(more)], elsewhere)
    assert names == ["project/data/a.jsonl", "second/data/a.jsonl"]


def test_a_file_is_known_by_size_and_time_and_has_no_key_of_its_own(tree):
    file = expand(["data/deep/er/c.txt"], str(tree))[0]
    stat = (tree / "data/deep/er/c.txt").stat()
    assert (file.key, file.size) == (None, stat.st_size)
    assert file.version == f"mtime-{stat.st_mtime_ns}"
    assert expand(["data/a.jsonl"], str(tree))[0].key is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("dta/*.jsonl", "there is no 'dta' in the recipe's folder. Did you mean 'data'"),
        ("data/a.json", "there is no 'a.json' in 'data'. Did you mean 'a.jsonl'"),
        ("data/*.csv", "there is no '*.csv' in 'data'"),
        ("data/deep/image.tiff", "no reader for 'data/deep/image.tiff'"),
        ("pictures", "holds images, and the recipe's schema is of texts; say `schema: image`"),
    ],
)
def test_a_path_without_files_says_where_it_looked_and_what_is_near(tree, path, message):
    with pytest.raises(InputError) as caught:
        expand([path], str(tree))
    assert message in str(caught.value)
    assert str(tree) not in str(caught.value)


def test_links_are_followed_once_and_broken_ones_are_not_lost(tree):
    (tree / "data/deep/loop").symlink_to(tree / "data")
    (tree / "data/broken.txt").symlink_to(tree / "nowhere")
    files = expand(["data"], str(tree))
    assert [file.path for file in files] == [
        "data/a.jsonl",
        "data/b.jsonl.gz",
        "data/broken.txt",
        "data/deep/er/c.txt",
    ]
    with pytest.raises(UnreadableFileError):
        open_stream(files[2])


def test_a_store_that_is_no_file_system_works_alike():
    store = fsspec.filesystem("memory")
    for name in ("a.jsonl", "sub/b.jsonl", "sub/c.txt", "sub/.d.txt"):
        store.pipe(f"/preceptor-test/{name}", b'{"text": "%s"}\n' % name.encode())
    try:
        root = "memory://preceptor-test"
        files = expand([root], ".")
        assert [file.path for file in files] == [
            "preceptor-test/a.jsonl",
            "preceptor-test/sub/b.jsonl",
            "preceptor-test/sub/c.txt",
        ]
        assert [f.path for f in expand([f"{root}/**/b.jsonl", f"{root}/sub/b.jsonl"])] == [
            "preceptor-test/sub/b.jsonl"
        ]
        assert [f.path for f in expand(["sub/*.txt"], root)] == ["sub/c.txt"]
        reader = reader_named("jsonl")
        opener = functools.partial(open_stream, files[1], None, None)
        slices = [part for parts in group(files[1:2], reader, 3) for part in parts]
        assert len(slices) > 1
        texts = [t for s in slices for b in reader.read(s, opener, {}) for t in b.records["text"]]
        assert [text.as_py() for text in texts] == ["sub/b.jsonl"]
        with pytest.raises(InputError, match=r"Did you mean 'a\.jsonl'"):
            expand([f"{root}/b.jsonl"])
    finally:
        store.rm("/preceptor-test", recursive=True)


# --- group -------------------------------------------------------------------------------------

named_files = st.lists(
    st.builds(
        lambda name, size: InputFile(f"/x/{name}", name, size, "1"),
        st.text("abc/", min_size=1, max_size=8),
        st.integers(0, 40),
    ),
    max_size=40,
    unique_by=lambda file: file.path,
)


def bins_of(files: list[InputFile], max_bytes: int, max_files: int) -> set[tuple[str, ...]]:
    groups = group(files, reader_named("text"), max_bytes, max_files)
    return {tuple(part.file.path for part in parts) for parts in groups}


@given(named_files, st.integers(1, 60), st.integers(1, 6), st.randoms(use_true_random=False))
def test_bins_hold_every_file_once_within_the_limits_in_any_order(files, size, count, random):
    shuffled = list(files)
    random.shuffle(shuffled)
    bins = bins_of(files, size, count)
    assert bins == bins_of(shuffled, size, count)
    assert sorted(path for members in bins for path in members) == sorted(f.path for f in files)
    sizes = {file.path: file.size for file in files}
    for members in bins:
        total = sum(sizes[path] for path in members)
        assert len(members) == 1 or (total <= size and len(members) <= count)


@given(named_files, st.integers(1, 60), st.integers(1, 6))
def test_one_more_file_changes_its_own_bin_only(files, size, count):
    if not files:
        return
    new, *rest = files
    before, after = bins_of(rest, size, count), bins_of(files, size, count)
    gone, came = before - after, after - before
    assert len(gone) <= 1
    assert {p for members in came for p in members} == {p for m in gone for p in m} | {new.path}


def test_a_large_document_stands_alone_and_record_files_are_split():
    text = reader_named("text")
    large = InputFile("/x/l", "l", 100, "")
    small = [InputFile(f"/x/{i}", str(i), 1, "") for i in range(5)]
    assert [len(parts) for parts in group([large, *small], text, 10)] == [5, 1]
    lines = InputFile("/x/a.jsonl", "a.jsonl", 100, "")
    assert [len(parts) for parts in group([lines], reader_named("jsonl"), 30)] == [1, 1, 1, 1]
    with pytest.raises(InputError):
        group([lines], text, 0)


# --- sniff -------------------------------------------------------------------------------------


def test_a_folder_is_turned_into_sources_that_can_be_read(tmp_path):
    contents = {
        "part-001.jsonl": '{"uuid": 1, "content": "a"}\n',
        "part-002.jsonl": '{"uuid": 2, "content": "b"}\n',
        "part-x.jsonl": '{"text": "c"}\n',
        "qa.csv": "question;answer\nq;a\n",
        "notes/a.md": "# a",
        "notes/b/c.md": "# c",
        "dump.json": '{"id": 1, "text": "d"}\n',
        "photo.tiff": "\x89",
        "broken.parquet": "PAR1",
        "empty.jsonl": "",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    sources = {source["name"]: source for source in sniff(str(tmp_path))}
    assert sources == {
        "dump": {"name": "dump", "paths": ["dump.json"], "format": "jsonl"},
        "notes": {"name": "notes", "paths": ["notes/**/*.md"]},
        "part": {
            "name": "part",
            "paths": ["part-001.jsonl", "part-002.jsonl"],
            "columns": {"text": "content", "key": "uuid"},
        },
        "part_x": {"name": "part_x", "paths": ["part-x.jsonl"]},
        "qa": {
            "name": "qa",
            "paths": ["qa.csv"],
            "columns": {"text": ["question", "answer"]},
            "delimiter": ";",
        },
    }
    left = {problem["path"]: problem["why"] for problem in unreadable(str(tmp_path))}
    assert sorted(left) == ["broken.parquet", "empty.jsonl", "photo.tiff"]
    assert "no reader for .tiff" in left["photo.tiff"]
    (tmp_path / "part-x.jsonl").unlink()
    assert next(s["paths"] for s in sniff(str(tmp_path)) if s["name"] == "part") == ["part-*.jsonl"]
    for source in sources.values():
        if "part-x.jsonl" not in source["paths"]:
            assert expand(source["paths"], str(tmp_path), source.get("format"))
    with pytest.raises(InputError, match="is no folder"):
        sniff(os.devnull)
