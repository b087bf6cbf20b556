"""Corpora of images, sounds and pairs go through every pass, from files made on the spot."""

import io
import json
import struct
import tarfile
import wave
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("PIL")
pytest.importorskip("soundfile")

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from curate.media.decode import check, decode_image, decode_sound
from curate.readers.columns import Problem
from curate.readers.discover import left_alone
from pipelines.corpus import Corpus, open_corpus
from pipelines.exchange.exporting import export
from pipelines.forget.selecting import Request
from pipelines.forget.takedown import forget
from pipelines.recipe import Recipe, parse_recipe
from pipelines.store import Store
from pipelines.verify import verify

WHEN = datetime(2026, 11, 22, 16, 0, tzinfo=UTC)
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def png(number: int, height: int = 12, width: int = 12, mode: str = "RGB") -> bytes:
    from PIL import Image

    shape = (height, width, *({"RGB": (3,), "RGBA": (4,), "L": ()}[mode]))
    pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def wav(number: int, seconds: float = 0.25, rate: int = 8000, channels: int = 1) -> bytes:
    size = round(seconds * rate) * channels
    samples = np.random.default_rng(number).integers(-9000, 9000, size).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def claims(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size that nothing behind it holds."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def recipe(base: Path, **sections: Any) -> Recipe:
    data: dict[str, Any] = {
        "name": "media",
        "seed": 3,
        "split": {"validation": 0.2, "test": 0.1},
        "deduplicate": {"near": None},
        **sections,
    }
    return parse_recipe(yaml.safe_dump(data), base=str(base))


def shards(corpus: Corpus) -> Any:
    return pa.concat_tables([read_shard(corpus.store.storage, s) for s in corpus.shards("tokens")])


def cleaned(store: Path) -> list[Any]:
    """Return the shards of the cleaned documents of a store with one such manifest."""
    (path,) = (store / "clean" / "manifests").glob("*.json")
    opened = Store(str(store))
    found = opened.get_manifest("clean", path.stem).tables["documents"]
    return [read_shard(opened.storage, shard) for shard in found]


def check_laws(lab: Any, corpus: Corpus) -> None:
    """Assert that every record is told once, and that the files are as their manifests say."""
    documents, verdicts = lab.frame(corpus, "documents"), lab.frame(corpus, "verdicts")
    counts = corpus.manifest("collect").counts
    assert counts["records"] == documents.height + lab.frame(corpus, "quarantine").height
    ids = documents["doc_id"].to_list()
    assert len(set(ids)) == len(ids) == verdicts.height
    kept = verdicts.filter("kept")["doc_id"]
    assert sorted(one.hex() for one in shards(corpus)["doc_id"].to_pylist()) == sorted(kept)
    assert verify(corpus) == []


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Images of several sizes, a twin, and files that cannot be decoded."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "im").mkdir()
    for number in range(20):
        (folder / "im" / f"{number}.png").write_bytes(png(number, 8 + number % 5, 12))
    (folder / "im" / "twin.png").write_bytes(png(3, 11, 12))
    (folder / "im" / "alpha.png").write_bytes(png(90, mode="RGBA"))
    (folder / "im" / "bomb.png").write_bytes(claims(100_000, 100_000))
    (folder / "im" / "text.png").write_bytes(b"no image at all")
    broken = bytearray(png(5))
    broken[60:70] = b"x" * 10
    (folder / "im" / "broken.png").write_bytes(bytes(broken))
    sections = {
        "schema": "image",
        "sources": [{"name": "pictures", "paths": "im"}],
        "tokenize": {"image": {"size": 8, "patch": 4}},
    }
    return folder, sections


@pytest.fixture(scope="module")
def drawn(pictures: Any, lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, sections = pictures
    store = tmp_path_factory.mktemp("drawn") / "store"
    lab.run(recipe(folder, **sections), store)
    return Path(store)


def test_images_become_pixels_and_what_cannot_be_decoded_is_quarantined(
    lab: Any, drawn: Path
) -> None:
    corpus = open_corpus("media", store=str(drawn))
    check_laws(lab, corpus)
    told = {row["uri"]: row["reason"] for row in lab.frame(corpus, "quarantine").to_dicts()}
    assert told == {
        "im/bomb.png": "too_large",
        "im/text.png": "invalid_media",
        "im/broken.png": "invalid_media",
    }
    table = shards(corpus)
    assert table.num_rows == 21, "the twin is dropped"
    assert table.schema.field("pixels").type == pa.list_(
        pa.field("item", pa.uint8(), nullable=False), 3 * 8 * 8
    )
    assert set(table["units"].to_pylist()) == {4}
    reasons = lab.frame(corpus, "verdicts")["reasons"].to_list()
    assert reasons.count(["duplicate:exact"]) == 1
    documents = {row["doc_id"]: row for row in lab.frame(corpus, "documents").to_dicts()}
    of = {"kind": "image", "size": 8, "channels": 3, "patch": 4, "fit": "crop"}
    assert corpus.manifest("tokenize").info["media"] == of
    for doc_id, pixels in zip(table["doc_id"], table["pixels"], strict=True):
        row = documents[doc_id.as_py().hex()]
        assert json.loads(row["meta"]).keys() == {"format", "width", "height"}
        assert decode_image(bytes.fromhex(row["media"]), of).reshape(-1).tolist() == pixels.as_py()
    rows = sum(s.rows for s in corpus.shards("plan_train"))
    held = sum(s.rows for n in ("plan_validation", "plan_test") for s in corpus.shards(n))
    assert rows + held == 21, "one document each"


def test_a_second_run_of_media_does_nothing(lab: Any, pictures: Any, drawn: Path) -> None:
    before = lab.snapshot(drawn)
    folder, sections = pictures
    outcome, _ = lab.run(recipe(folder, **sections), drawn)
    assert (outcome.executed, lab.snapshot(drawn)) == (0, before)


def test_media_jobs_in_any_order_write_the_same_bytes(
    lab: Any, pictures: Any, drawn: Path, tmp_path: Path
) -> None:
    folder, sections = pictures
    lab.run(recipe(folder, **sections), tmp_path / "s", engine=lab.ShufflingEngine(5))
    assert lab.snapshot(tmp_path / "s") == lab.snapshot(drawn)


def test_parts_of_any_size_hold_the_same_images(
    lab: Any, pictures: Any, drawn: Path, tmp_path: Path
) -> None:
    folder, sections = pictures
    small = recipe(folder, collect={"part_bytes": 4000}, **sections)
    lab.run(small, tmp_path / "s", until="clean")
    many, one = (cleaned(store) for store in (tmp_path / "s", drawn))
    assert len(many) > len(one), "shards of documents"

    def rows(tables: list[Any]) -> list[Any]:
        found = pa.concat_tables(tables).sort_by("doc_id")
        return found.select(["doc_id", "media", "meta"]).to_pylist()

    assert rows(many) == rows(one)


def test_another_look_at_the_same_patches_decodes_nothing_again(
    lab: Any, pictures: Any, drawn: Path
) -> None:
    folder, sections = pictures
    changed = {**sections, "mix": {"budget": "40 patches"}}
    _, executed = lab.run(recipe(folder, **changed), drawn, until="mix")
    assert set(executed) == {"mix"}
    with pytest.raises(InputError, match="counts patches"):
        recipe(folder, **{**sections, "mix": {"budget": "40 tokens"}})


def test_a_forgotten_image_is_gone_whatever_its_caption(lab: Any, tmp_path: Path) -> None:
    rows = [{"image": {"bytes": png(n), "path": None}, "caption": f"no {n}"} for n in range(6)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    sections = {
        "schema": "pair",
        "sources": [{"name": "p", "paths": "a.parquet"}],
        "tokenize": {"image": {"size": 8}, "tokenizer": {"bytes": True}, "caption_tokens": 6},
    }
    store = tmp_path / "store"
    lab.run(recipe(tmp_path, **sections), store)
    corpus = open_corpus("media", store=str(store))
    before = {r["text"]: r["doc_id"] for r in lab.frame(corpus, "documents").to_dicts()}
    gone = set()
    for number, with_purge in ((2, False), (4, True)):
        gone.add(before[f"no {number}"])
        request = Request(ids=(bytes.fromhex(before[f"no {number}"]),))
        forget("media", request, store=str(store), with_purge=with_purge, now=WHEN)
        corpus = open_corpus("media", store=str(store))
        assert verify(corpus) == []
        table = shards(corpus)
        mine = table.filter(pa.compute.equal(table["num_bytes"], 0)).to_pylist()
        assert {row["doc_id"].hex() for row in mine} == gone
        assert not any(any(row["pixels"]) for row in mine)
        for row in lab.frame(corpus, "documents").to_dicts():
            assert (row["media"] == "", row["media_bytes"] == 0) == (row["doc_id"] in gone,) * 2
        rows[number]["caption"] = f"a caption {number} that nobody has seen"
    secret = png(4)[40:80]  # inside the compressed pixels
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    lab.run(recipe(tmp_path, **sections), store)
    corpus = open_corpus("media", store=str(store))
    check_laws(lab, corpus)
    assert shards(corpus).num_rows == 4, "another caption brings it back under no other name"
    for shard in corpus.shards("documents"):
        whole = read_shard(corpus.store.storage, shard)
        assert not any(secret in data for data in whole["media"].to_pylist())


def test_pairs_of_a_webdataset_carry_their_captions(lab: Any, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(8):
            text = f"picture {number}  {'of much ' * number}\r\nend"
            for name, data in ((f"{number:03}.png", png(number)), (f"{number:03}.txt", text)):
                body = data if isinstance(data, bytes) else data.encode()
                info = tarfile.TarInfo(name)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
        info = tarfile.TarInfo("alone.png")
        info.size = len(png(99))
        archive.addfile(info, io.BytesIO(png(99)))
    sections = {
        "schema": "pair",
        "sources": [{"name": "p", "paths": "."}],
        "tokenize": {"image": {"size": 8}, "tokenizer": {"bytes": True}, "caption_tokens": 12},
    }
    lab.run(recipe(tmp_path, **sections), tmp_path / "store")
    corpus = open_corpus("media", store=str(tmp_path / "store"))
    check_laws(lab, corpus)
    (bad,) = lab.frame(corpus, "quarantine").to_dicts()
    assert (bad["reason"], bad["detail"][:22]) == ("no_text", "alone has no caption; ")
    table, specials = shards(corpus), corpus.tokenizer["specials"]
    assert table.num_rows == 8
    for caption in table["caption"].to_pylist():
        assert (len(caption) <= 12, caption[0], caption[-1]) == (
            True,
            specials["bos"],
            specials["eos"],
        )
    assert set(table["units"].to_pylist()) == {1}
    texts = {r["text"] for r in lab.frame(corpus, "documents").to_dicts()}
    assert not any("\r" in text for text in texts), "captions are cleaned"
    assert any(shard.base for shard in corpus.shards("documents")), (
        "and the images are not rewritten"
    )
    export(corpus, "parquet", tmp_path / "out")
    data = pq.read_table(tmp_path / "out" / "data")
    assert sorted(data["media"].to_pylist()) == sorted(png(number) for number in range(8))
    assert set(data["text"].to_pylist()) == texts
    for form in ("parquet", "webdataset"):
        with pytest.raises(InputError, match="exported once"):
            export(corpus, form, tmp_path / "more", what="drawn")
    export(corpus, "webdataset", tmp_path / "tars")
    again = {**sections, "sources": [{"name": "p", "paths": "tars"}]}
    lab.run(recipe(tmp_path, **again), tmp_path / "again", until="clean")

    def pairs(store: Path) -> set[tuple[bytes, str]]:
        found = pa.concat_tables(cleaned(store))
        return set(zip(found["media"].to_pylist(), found["text"].to_pylist(), strict=True))

    assert pairs(tmp_path / "again") == pairs(tmp_path / "store")
    assert len({r["text_hash"] for r in lab.frame(corpus, "documents").to_dicts()}) == 8


def test_sounds_of_an_archive_become_samples(lab: Any, tmp_path: Path) -> None:
    import soundfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(8):
            archive.writestr(f"wav/{number}.wav", wav(number, 0.05 * (number + 1)))
        archive.writestr("wav/fast.wav", wav(50, 0.1, rate=16_000, channels=2))
        archive.writestr("wav/broken.wav", wav(51)[:60])
        archive.writestr("wav/none.wav", wav(52, 0.0))
        archive.writestr("README", b"hello")
        archive.writestr("wav/nobody.txt", b"the caption of no sound")
        archive.writestr("labels.csv", "file,digit\nwav/0.wav,7\nwav/1.wav,8\n")
        flac = io.BytesIO()
        soundfile.write(flac, np.arange(800, dtype=np.int16), 8000, format="FLAC")
        archive.writestr("wav/a.flac", flac.getvalue())
    sections = {
        "schema": "audio",
        "sources": [{"name": "s", "paths": "a.zip"}],
        "tokenize": {"audio": {"max_seconds": 0.2}},
    }
    lab.run(recipe(tmp_path, **sections), tmp_path / "store")
    corpus = open_corpus("media", store=str(tmp_path / "store"))
    check_laws(lab, corpus)
    told = [(r["reason"], r["detail"][:10]) for r in lab.frame(corpus, "quarantine").to_dicts()]
    assert sorted(reason for reason, _ in told) == [*["invalid_media"] * 3, "truncated"]
    documents = {r["key"]: r for r in lab.frame(corpus, "documents").to_dicts()}
    assert json.loads(documents["wav/0.wav"]["meta"])["digit"] == "7"
    assert json.loads(documents["wav/0.wav"]["meta"])["num_samples"] == 400
    table = {r["doc_id"].hex(): r for r in shards(corpus).to_pylist()}
    assert len(table) == 10
    first = table[documents["wav/3.wav"]["doc_id"]]
    plain = np.frombuffer(wav(3, 0.2)[44:], "<i2")
    assert np.array_equal(first["samples"], plain), "16 bits of one channel stay as they are"
    assert first["units"] == 20
    fast = table[documents["wav/fast.wav"]["doc_id"]]
    assert (len(fast["samples"]), fast["units"]) == (800, 10)
    assert table[documents["wav/a.flac"]["doc_id"]]["samples"] == list(range(800))
    counts = corpus.manifest("pack").counts
    cut = sum(counts[f"{split}_left_out"] for split in ("train", "validation", "test"))
    long = sum(max(0, -(-r["num_samples"] // 80) - 20) for r in map(_meta, documents.values()))
    assert cut == long, "what is beyond a row is told"


def _meta(row: Any) -> Any:
    return json.loads(row["meta"])


def test_digits_of_an_idx_file_keep_their_pixels_and_labels(lab: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    (tmp_path / "u-images-idx3-ubyte").write_bytes(
        b"\0\0\x08\x03" + struct.pack(">III", 1, 4, 4) + bytes(17)  # one byte too many
    )
    head = b"\0\0\x08\x03" + struct.pack(">III", 6, 4, 4)
    (tmp_path / "t-images-idx3-ubyte").write_bytes(head + pixels.tobytes())  # one is missing
    labels = b"\0\0\x08\x01" + struct.pack(">I", 6) + bytes(range(6))
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(labels)
    sections = {
        "schema": "image",
        "sources": [{"name": "d", "paths": ".", "format": "idx"}],
        "tokenize": {"image": {"size": 4, "patch": 2, "channels": 1}},
    }
    lab.run(recipe(tmp_path, **sections), tmp_path / "store")
    corpus = open_corpus("media", store=str(tmp_path / "store"))
    told = [r["reason"] for r in lab.frame(corpus, "quarantine").to_dicts()]
    assert told == ["truncated", "invalid_media"]
    table = {r["doc_id"].hex(): r["pixels"] for r in shards(corpus).to_pylist()}
    for row in lab.frame(corpus, "documents").to_dicts():
        label = json.loads(row["meta"]).get("label")
        if label is not None:
            assert table[row["doc_id"]] == pixels[label].reshape(-1).tolist()


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"tokenize": {"image": {"size": 30, "patch": 4}}},
            "no multiple of patch 4; write size: 28",
        ),
        ({"tokenize": {"audio": {}}}, "tokenize.audio means nothing with schema: image"),
        ({"tokenize": {"tokenizer": {"bytes": True}}}, "tokenize.tokenizer means nothing"),
        ({"pack": {"layout": "packed"}}, "write document"),
        ({"pack": {"row_tokens": 65}}, "a row has 64 patches"),
        ({"schema": "text"}, "tokenize.image means nothing with schema: text"),
        ({"schema": "audio", "tokenize": {"audio": {"sample_rate": 11_025}}}, "110.25 samples"),
        ({"schema": "film"}, "'text', 'image', 'audio' or 'pair'"),
    ],
)
def test_what_means_nothing_for_the_schema_is_refused(
    tmp_path: Path, sections: dict[str, Any], told: str
) -> None:
    given = {
        "schema": "image",
        "sources": [{"name": "a", "paths": "x"}],
        "tokenize": {"image": {"size": 32}},
        **sections,
    }
    with pytest.raises(InputError) as caught:
        recipe(tmp_path, **given)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "name", "told"),
    [
        ("text", "a.png", "gives images, and the recipe's schema is text; say `schema: image`"),
        ("image", "a.txt", "gives texts, and the recipe's schema is image; say `schema: text`"),
        ("image", "a.wav", "gives sounds, and the recipe's schema is image; say `schema: audio`"),
        ("text", "a.zip", "the recipe's schema is text"),
    ],
)
def test_a_readers_schema_goes_with_the_recipes(
    lab: Any, tmp_path: Path, schema: str, name: str, told: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    given = recipe(tmp_path, schema=schema, sources=[{"name": "a", "paths": name}])
    with pytest.raises(InputError, match="source 'a': ") as caught:
        lab.run(given, tmp_path / "store")
    assert told in str(caught.value)
    assert str(caught.value).count("source 'a'") == 1


def test_files_of_another_kind_in_a_folder_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.txt", "in/c.ogg", "in/d.wav", "e.tar"):
        (tmp_path / name).write_bytes(b"x")
    assert left_alone(["."], str(tmp_path), "image") == ["b.txt", "in/c.ogg", "in/d.wav"]
    assert left_alone([".", "a.png"], str(tmp_path), "audio") == ["a.png", "b.txt", "in/c.ogg"]


def test_of_an_image_that_moves_the_first_picture_counts_and_it_is_told() -> None:
    from PIL import Image

    stream = io.BytesIO()
    first, second = (Image.new("L", (8, 8), level) for level in (10, 200))
    first.save(stream, "GIF", save_all=True, append_images=[second])
    found = check(stream.getvalue(), "image")
    assert found == {"format": "gif", "width": 8, "height": 8, "animated": True}
    media = {"kind": "image", "size": 8, "channels": 1, "patch": 4}
    assert set(decode_image(stream.getvalue(), media).reshape(-1).tolist()) == {10}


def test_headers_that_claim_too_much_are_refused_before_anything_is_decoded() -> None:
    hours = bytearray(wav(0))
    found = check(claims(100_000, 100_000), "image")
    assert isinstance(found, Problem)
    assert (found.reason, "100,000 x 100,000" in found.detail) == ("too_large", True)
    hours[34:36] = struct.pack("<H", 16)
    hours[32:34] = struct.pack("<H", 2)
    day = b"fLaC" + b"\x80\0\0\x22" + bytes(10)
    day += ((8000 << 44) | (0 << 41) | (15 << 36) | 8000 * 86_400).to_bytes(8, "big") + bytes(30)
    found = check(day, "audio")
    assert isinstance(found, Problem)
    assert (found.reason, "1,440 minutes" in found.detail) == ("too_large", True)
    for rate, told in ((1, "2.8 hours, above 2"), (16_000_001, "a rate of 16,000,001 Hz")):
        found = check(wav(0, 10_000 / rate, rate=rate), "audio")
        assert isinstance(found, Problem)
        assert (found.reason, told in found.detail) == ("too_large", True)


def test_images_are_cropped_or_padded_and_laid_over_white() -> None:
    from PIL import Image

    wide = Image.new("RGB", (30, 10), (10, 20, 30))
    stream = io.BytesIO()
    wide.save(stream, "PNG")
    media = {"kind": "image", "size": 10, "channels": 3, "patch": 5}
    cropped = decode_image(stream.getvalue(), media)
    assert cropped.shape == (3, 10, 10)
    assert cropped[:, 0, 0].tolist() == [10, 20, 30]
    padded = decode_image(stream.getvalue(), {**media, "fit": "pad"})
    assert padded[:, 0, 0].tolist() == [255] * 3
    assert padded[:, 5, 5].tolist() == [10, 20, 30]
    clear = io.BytesIO()
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(clear, "PNG")
    assert set(decode_image(clear.getvalue(), media).reshape(-1).tolist()) == {255}
    deep = io.BytesIO()
    Image.fromarray(np.full((10, 10), 0x8000, np.uint16)).save(deep, "PNG")
    grey = decode_image(deep.getvalue(), {**media, "channels": 1})
    assert set(grey.reshape(-1).tolist()) == {0x80}


def test_what_is_no_number_is_silent_and_what_is_too_loud_is_clipped() -> None:
    import soundfile

    stream = io.BytesIO()
    wave = np.array([np.nan, np.inf, -np.inf, 3e38, 0.5], dtype=np.float32)
    soundfile.write(stream, wave, 8000, format="WAV", subtype="FLOAT")
    assert decode_sound(stream.getvalue(), 8000).tolist() == [0, 32767, -32768, 32767, 16384]


def test_the_length_of_a_compressed_sound_is_what_can_be_decoded() -> None:
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(2000), 8000, format="WAV", subtype="IMA_ADPCM")
    found = check(stream.getvalue(), "audio")
    assert not isinstance(found, Problem)
    assert found["num_samples"] >= 2000
    assert found["duration_s"] == found["num_samples"] / 8000


def test_sounds_of_another_rate_keep_their_pitch() -> None:
    import soundfile

    time = np.arange(16_000) / 16_000
    stream = io.BytesIO()
    soundfile.write(stream, 0.5 * np.sin(2 * np.pi * 440 * time), 16_000, format="WAV")
    samples = decode_sound(stream.getvalue(), 8000).astype(np.float64)
    assert len(samples) == 8000
    assert int(np.abs(np.fft.rfft(samples)).argmax()) == 440


@pytest.mark.parametrize(
    ("path", "source", "sections"),
    [
        (
            "image_text/noto_emoji_64px.parquet",
            {"columns": {"media": "image", "text": "caption", "key": "key"}},
            {"schema": "pair", "tokenize": {"tokenizer": {"bytes": True}}},
        ),
        (
            "image_text/noto_emoji_sample_webdataset.tar",
            {},
            {"schema": "pair", "tokenize": {"tokenizer": {"bytes": True}}},
        ),
        ("images/mnist", {"format": "idx"}, {"schema": "image"}),
        ("audio/fsdd_1200.zip", {}, {"schema": "audio"}),
    ],
)
def test_the_first_of_the_larger_shared_media_are_read(
    lab: Any, tmp_path: Path, path: str, source: Any, sections: Any
) -> None:
    if not (SHARED / path).exists():
        pytest.skip(f"needs {SHARED / path}, of the shared data")
    sections = {**sections, "sources": [{"name": "a", "paths": str(SHARED / path), **source}]}
    few = recipe(tmp_path, **sections)
    few._limit = 50
    lab.run(few, tmp_path / "store", until="collect")
    (manifest,) = (tmp_path / "store" / "collect" / "manifests").glob("*.json")
    assert json.loads(manifest.read_text())["counts"]["documents"] == 50
