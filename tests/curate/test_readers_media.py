"""Tar archives of samples, images and sound: headers only, nothing extracted, all damage told."""

import functools
import io
import json
import struct
import tarfile
import wave
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers import audio, images
from curate.readers.base import RECORDS, InputFile, Reject, Slice
from curate.readers.columns import Problem
from curate.readers.discover import expand, open_stream
from curate.readers.media import AUDIO, IMAGES, SCHEMAS
from curate.readers.registry import reader_for, readers
from curate.readers.tar_stream import Damage, members

Rows = list[dict[str, Any]]


def read(data: bytes, path: str = "a.tar", **options: Any) -> tuple[Rows, list[Reject]]:
    reader = reader_for(path)[0]
    schema = SCHEMAS.get(reader.schema, RECORDS)
    limits = {
        name: options.pop(name) for name in ("columns", "max_document_bytes") if name in options
    }
    part = Slice(InputFile("test:", path, len(data), "1"))
    rows: Rows = []
    rejects: list[Reject] = []
    for batch in reader.read(part, lambda: io.BytesIO(data), {"options": options, **limits}):
        assert batch.records.schema.equals(schema)
        batch.records.validate(full=True)
        rows += batch.records.to_pylist()
        rejects += batch.rejects
    return rows, rejects


def reasons(rejects: list[Reject]) -> list[str]:
    return [reject.reason for reject in rejects]


def tar(files: dict[str, bytes], format_: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format_) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def linked(kind: bytes, name: str = "0.txt", target: str = "/etc/passwd") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = target
        archive.addfile(info)
        whole = tarfile.TarInfo("1.txt")
        whole.size = 4
        archive.addfile(whole, io.BytesIO(b"text"))
    return stream.getvalue()


SAMPLES = {
    "a/0.png": b"\x89PNG" * 100,
    "a/0.txt": b"first caption",
    "a/0.json": b'{"url": "https://a.org", "license": "cc0", "n": 1}',
    "a/1.txt": b"second caption",
    "a/2.json": b'{"caption": "third caption"}',
    "a/2.jpg": b"x" * 700,
}
TAR = tar(SAMPLES)


# --- WebDataset --------------------------------------------------------------------------------


def test_the_shared_shard_has_its_samples(shared_data):
    path = shared_data / "image_text" / "noto_emoji_sample_webdataset.tar"
    rows, rejects = read(path.read_bytes())
    assert (len(rows), rejects) == (101, [])
    meta = json.loads(rows[0]["meta"])
    assert (rows[0]["text"], rows[0]["key"]) == ("grinning face", "00000")
    assert (meta["members"], meta["category"]) == ({"png": 4539}, "Smileys & Emotion")


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_with_one_name_are_one_record(format_):
    rows, rejects = read(tar(SAMPLES, format_))
    assert rejects == []
    assert [(row["key"], row["text"]) for row in rows] == [
        ("a/0", "first caption"),
        ("a/1", "second caption"),
        ("a/2", "third caption"),
    ]
    assert (rows[0]["url"], rows[0]["license"]) == ("https://a.org", "cc0")
    assert json.loads(rows[0]["meta"]) == {"members": {"png": 400}, "n": 1}


def test_positions_are_offsets_of_headers_that_a_person_can_go_to():
    rows, _ = read(tar({"x" * 150 + "/0.txt": b"one", "1.txt": b"two"}, tarfile.PAX_FORMAT))
    data = tar({"x" * 150 + "/0.txt": b"one", "1.txt": b"two"}, tarfile.PAX_FORMAT)
    assert rows[0]["key"] == "x" * 150 + "/0"
    for row in rows:
        with tarfile.open(fileobj=io.BytesIO(data[row["position"] :])) as archive:
            first = archive.next()
            assert first is not None
            assert first.name == row["key"] + ".txt"


@pytest.mark.parametrize(
    ("files", "reason", "said"),
    [
        ({"0.png": b"x"}, "no_text", "its members are: png"),
        ({"0.txt": b"\xff"}, "invalid_utf8", "0.txt"),
        ({"0.txt": b"x", "0.json": b"{"}, "invalid_json", "0.json"),
        ({"0.json": b"[]"}, "not_an_object", "list"),
        ({"0.txt": b""}, "no_text", "no caption"),
        ({"../0.txt": b"x"}, "outside_root", ".."),
        ({"/etc/0.txt": b"x"}, "outside_root", "/etc"),
        ({"0.txt": b"x" * 2000}, "too_large", "2,000"),
        ({f"0.{n}": b"" for n in range(300)}, "too_large", "256"),
    ],
)
def test_a_sample_without_a_caption_is_a_reject_and_its_neighbours_stay(files, reason, said):
    rows, rejects = read(tar({**files, "z.txt": b"last"}), max_document_bytes=1000)
    assert [row["text"] for row in rows] == ["last"]
    assert reasons(rejects) == [reason]
    assert said in rejects[0].detail


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_are_refused_and_never_followed(kind):
    rows, rejects = read(linked(kind))
    assert [row["text"] for row in rows] == ["text"]
    assert reasons(rejects) == ["outside_root"]


def test_two_members_of_one_name_are_no_sample():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for data in (b"one", b"two"):
            info = tarfile.TarInfo("0.txt")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert reasons(read(stream.getvalue())[1]) == ["invalid_tar"]


def test_the_caption_field_can_be_named_and_columns_too():
    data = tar({"0.json": b'{"alt": "the text", "uid": "k", "text": ""}'})
    assert reasons(read(data)[1]) == ["no_text"]
    data = tar({"0.json": b'{"alt": "the text", "uid": "k"}'})
    rows, _ = read(data, caption="alt", columns={"key": "uid"})
    assert (rows[0]["text"], rows[0]["key"]) == ("the text", "k")
    with pytest.raises(InputError, match="Did you mean 'caption'"):
        read(data, captions="alt")


def test_a_false_size_allocates_nothing_and_is_told():
    block = bytearray(tar({"0.txt": b"x"})[:512])
    block[124:136] = b"\x80" + (1 << 60).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    rows, rejects = read(bytes(block) + b"x" * 512)
    assert (rows, set(reasons(rejects))) == ([], {"too_large", "truncated"})


def test_a_tar_without_its_end_marker_was_cut_and_says_so():
    end = TAR.rstrip(b"\0")
    stop = -(-len(end) // 512) * 512
    rows, rejects = read(TAR[:stop])
    assert (len(rows), reasons(rejects)) == (3, ["truncated"])


def test_archives_behind_one_another_are_read_to_the_end():
    rows, rejects = read(TAR + tar({"9.txt": b"last"}))
    assert ([row["key"] for row in rows], rejects) == (["a/0", "a/1", "a/2", "9"], [])


def test_what_is_no_tar_archive_raises():
    with pytest.raises(UnreadableFileError, match="a.tar is no tar archive") as caught:
        read(b"PK\x03\x04" + bytes(range(256)) * 20)
    assert caught.value.reason == "not_tar"


def test_compressed_shards_cut_short_raise_behind_what_could_be_read(tmp_path):
    import gzip

    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(TAR, 0)[:2500])
    reader, compression = reader_for(path.name)
    file = InputFile(str(path), path.name, 1, "1")
    batches = reader.read(Slice(file), functools.partial(open_stream, file, compression), {})
    with pytest.raises(UnreadableFileError):
        list(batches)


@given(st.integers(0, len(TAR.rstrip(b"\0"))))
def test_however_a_shard_is_cut_it_is_told(stop):
    rows, rejects = read(TAR[:stop])
    assert rejects[-1].reason == "truncated"
    # Samples whose last member lies before the cut are read.
    assert len(rows) + len(rejects) >= 1
    assert [row["key"] for row in rows] == [f"a/{n}" for n in range(len(rows))]


@given(st.lists(st.tuples(st.integers(0, len(TAR) - 1), st.integers(0, 255)), max_size=5))
def test_flipped_bytes_give_rejects_or_unreadable_and_nothing_else(flips):
    data = bytearray(TAR)
    for at, value in flips:
        data[at] = value
    try:
        rows, rejects = read(bytes(data))
    except UnreadableFileError:
        return  # the first header is damaged, and there is no other that fits
    assert len(rows) + len(rejects) >= 1


@given(st.binary(max_size=2000))
def test_any_bytes_are_members_or_damage(data):
    found = list(members(io.BytesIO(data)))
    assert found or not data.strip(b"\0")
    assert all(one.position <= len(data) for one in found)


@given(
    st.dictionaries(st.text("ab/.", min_size=1, max_size=8), st.binary(max_size=600), max_size=5)
)
def test_members_are_those_that_pythons_tarfile_sees(files):
    data = tar(files)
    ours = [
        (one.name, one.read(one.size))
        for one in members(io.BytesIO(data))
        if not isinstance(one, Damage)
    ]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        theirs = [(info.name, info.size) for info in archive]
    assert [(name.rstrip("/"), len(content)) for name, content in ours] == [
        (name.rstrip("/"), size) for name, size in theirs
    ]


# --- images ------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">I4sII5s", 13, b"IHDR", width, height, b"\x08\x02\0\0\0"
    )
    return head + b"crc!" + b"\0\0\0\0IEND\xaeB`\x82"


def jpeg(width: int, height: int, frame: int = 0xC2) -> bytes:
    app = b"\xff\xe0\x00\x10JFIF\0" + bytes(9)
    start = struct.pack(">BBHBHHB", 0xFF, frame, 11, 8, height, width, 1) + bytes(3)
    return b"\xff\xd8" + app + b"\xff" + start + b"\xff\xda\x00\x02data\xff\xd9"


def webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def bmp(width: int, height: int) -> bytes:
    body = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 54) + body


IMAGE_FILES = {
    "png": png(640, 480),
    "jpeg": jpeg(640, 480),
    "gif": b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(7) + b"\x3b",
    "webp": webp(b"VP8X", struct.pack("<I", 0) + b"\x7f\x02\0" + b"\xdf\x01\0"),
    "bmp": bmp(640, -480),
}
OTHER_WEBP = [
    webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 640, 480) + bytes(2)),
    webp(b"VP8L", b"\x2f" + struct.pack("<I", 639 | 479 << 14) + bytes(8)),
]


@pytest.mark.parametrize("kind", list(IMAGE_FILES))
def test_the_size_of_an_image_is_read_from_its_header(kind):
    rows, rejects = read(IMAGE_FILES[kind], "x/a.PNG")  # the suffix does not decide
    assert rejects == []
    found = {name: rows[0][name] for name in ("format", "width", "height", "bytes")}
    assert found == {"format": kind, "width": 640, "height": 480, "bytes": IMAGE_FILES[kind]}


def test_every_kind_of_webp_tells_its_size():
    for data in OTHER_WEBP:
        assert images.header(data) == {"format": "webp", "width": 640, "height": 480}


def test_real_images_have_the_sizes_that_their_data_set_says(shared_data):
    table = pq.read_table(shared_data / "image_text" / "noto_emoji_64px.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    column = next(name for name, kind in types.items() if "binary" in kind or "struct" in kind)
    for value in table[column].slice(0, 300).to_pylist():
        data = value["bytes"] if isinstance(value, dict) else value
        assert images.header(data) == {"format": "png", "width": 64, "height": 64}


@pytest.mark.parametrize("kind", [*IMAGE_FILES, "wav", "flac"])
def test_a_file_cut_anywhere_in_its_header_is_a_reject(kind):
    data = {**IMAGE_FILES, **SOUNDS}[kind]
    path = "a.wav" if kind in SOUNDS else "a.png"
    for stop in range(min(len(data), 40)):
        rows, rejects = read(data[:stop], path)
        assert (rows, len(rejects)) == ([], 1)
        assert rejects[0].reason in ("invalid_media", "truncated")


def test_images_of_no_size_and_other_files_are_rejects():
    for data in (png(0, 5), bmp(-3, 5), b"II*\0tiff", b"<svg/>", b""):
        assert reasons(read(data, "a.png")[1]) == ["invalid_media"]
    assert reasons(read(png(1, 1), "a.png", max_document_bytes=9)[1]) == ["too_large"]


# --- sound -------------------------------------------------------------------------------------


def wav(num_samples: int = 800, rate: int = 8000, num_channels: int = 1) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as writer:
        writer.setnchannels(num_channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(bytes(2 * num_channels * num_samples))
    return stream.getvalue()


def flac(num_samples: int, rate: int = 44100, num_channels: int = 2) -> bytes:
    bits = rate << 44 | (num_channels - 1) << 41 | 15 << 36 | num_samples
    info = bytes(10) + bits.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80" + len(info).to_bytes(3, "big") + info + b"\xff\xf8frames"


SOUNDS = {"wav": wav(), "flac": flac(44100)}


def test_rate_and_length_are_read_from_the_header():
    row = read(wav(4000, 16000, 2), "a.wav")[0][0]
    assert (row["sample_rate"], row["num_channels"], row["num_samples"]) == (16000, 2, 4000)
    assert row["duration_s"] == 0.25
    row = read(SOUNDS["flac"], "a.flac")[0][0]
    assert (row["format"], row["duration_s"], row["num_channels"]) == ("flac", 1.0, 2)


def test_real_recordings_agree_with_pythons_wave(shared_data):
    with zipfile.ZipFile(shared_data / "audio" / "fsdd_1200.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".wav")]
        assert len(names) == 1200
        for name in names[::20]:
            data = archive.read(name)
            found = audio.header(data)
            assert not isinstance(found, Problem)
            with wave.open(io.BytesIO(data)) as theirs:
                assert found["sample_rate"] == theirs.getframerate()
                assert found["num_samples"] == theirs.getnframes()


def test_a_recording_whose_samples_are_missing_is_a_reject():
    assert reasons(read(wav()[:-20], "a.wav")[1]) == ["truncated"]
    assert reasons(read(flac(100)[:42], "a.flac")[1]) == ["truncated"]
    assert reasons(read(wav()[:36].replace(b"fmt ", b"junk") + wav()[36:], "a.wav")[1]) == [
        "invalid_media"
    ]


def test_a_recorder_that_left_its_length_open_is_read_to_the_end():
    data = wav(800)
    at = data.index(b"data") + 4
    for said in (b"\xff\xff\xff\xff", b"\0\0\0\0"):
        found = audio.header(data[:at] + said + data[at + 4 :])
        assert not isinstance(found, Problem)
        assert found["num_samples"] == 800


@given(st.sampled_from([*IMAGE_FILES.values(), *OTHER_WEBP, *SOUNDS.values()]), st.data())
def test_headers_never_raise(data, draw):
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 8))):
        changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
    for header in (images.header, audio.header):
        found = header(bytes(changed))
        assert isinstance(found, (dict, Problem))


def test_readers_of_images_and_sound_have_a_schema_of_their_own(tmp_path: Path):
    assert (readers()["images"].schema, readers()["audio"].schema) == ("image", "audio")
    assert "bytes" in IMAGES.names
    assert "duration_s" in AUDIO.names
    (tmp_path / "a.png").write_bytes(png(1, 1))
    (tmp_path / "a.txt").write_text("text")
    # A folder without `format:` stands for its text; images are asked for by name.
    assert [file.path for file in expand([str(tmp_path)])] == [f"{tmp_path.name}/a.txt"]
    assert [file.path for file in expand([str(tmp_path)], format="images")] == [
        f"{tmp_path.name}/a.png"
    ]
