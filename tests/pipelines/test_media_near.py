"""Near-duplicates of images and sounds through the passes that texts go through."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import soundfile
from PIL import Image, ImageDraw

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from curate.media.perceptual import PerceptualScheme, hamming, hashes_of
from pipelines.corpus import open_corpus, why
from pipelines.demanded import families_of
from pipelines.explain import explain
from pipelines.overlap import overlap
from pipelines.packing import rows_told
from pipelines.recipe import parse_recipe
from pipelines.report.page import build_report
from pipelines.serving.life import told as life
from pipelines.tables import show_table


def _picture(seed, size=48):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def _tune(seed):
    rng = np.random.default_rng(seed)
    t = np.arange(8000) / 8000
    steps = rng.uniform(300, 3000, 20)[(t * 20).astype(int)]
    return (9000 * np.sin(2 * np.pi * np.cumsum(steps) / 8000)).astype(np.int16)


def _recipe(lab, folder, kind, **sections):
    tokenize = {"image": {"image": {"size": 16, "channels": 3, "patch": 4}}, "audio": {}}[kind]
    sources = [{"name": "files", "paths": ["files/*"]}]
    asked = {"schema": kind, "sources": sources, "tokenize": tokenize, **sections}
    return lab.recipe(folder, **asked, pack={})


def test_a_copy_of_an_image_goes_in_favour_of_the_larger_and_the_report_shows_both(
    lab, tmp_path, capsys
):
    files = tmp_path / "files"
    files.mkdir()
    for seed in range(5):
        _picture(seed).save(files / f"{seed}.png", pnginfo=None)
    _picture(0).resize((32, 32)).save(files / "copy.jpg", quality=80)
    Image.new("RGB", (40, 40), "white").save(files / "blank.png")
    rules = {"use": ["image_basic@preceptor"]}
    lab.run(_recipe(lab, tmp_path, "image", rules=rules), tmp_path / "store")
    corpus = open_corpus("tiny", store=str(tmp_path / "store"))
    documents = lab.frame(corpus, "documents")
    path_of = dict(zip(documents["doc_id"], documents["path"], strict=True))
    (edge,) = lab.frame(corpus, "duplicates").iter_rows(named=True)
    assert edge["kind"] == "near"
    assert edge["jaccard"] >= 1 - 8 / 64
    gone = {
        path_of[row["doc_id"]]: (row["reasons"][0], path_of.get(row["kept_id"]))
        for row in lab.frame(corpus, "verdicts").iter_rows(named=True)
        if not row["kept"]
    }
    assert gone == {
        "files/copy.jpg": ("duplicate:near", "files/0.png"),
        "files/blank.png": ("rule:image_basic@preceptor.detail", None),
    }
    report = build_report(corpus)
    assert report.html.count('src="data:image/jpeg;base64,') >= 7
    assert "img-src data:" in report.html
    assert "Patches kept" in report.html
    assert "tokens" not in report.data["corpus"]["unit"]
    (copy,) = (doc for doc, path in path_of.items() if path == "files/copy.jpg")
    assert "media" not in why(corpus, copy)["document"]
    explain(str(corpus.version), copy, store=str(tmp_path / "store"))
    told = capsys.readouterr().out
    assert "32 x 32 pixels, jpeg" in told
    assert "of 64 bits of their looks differ" in told
    assert "Jaccard" not in told
    (shown,) = life(corpus, copy)["duplicates"]
    assert "of 64 bits of their looks differ" in shown["alike"]
    size = (files / "copy.jpg").stat().st_size
    where = f"media_bytes = {size}"
    show_table("tiny", "documents", where=where, rows=3, store=str(tmp_path / "store"))
    assert f"media        {size} bytes" in capsys.readouterr().out
    assert rows_told(corpus.manifest("pack"), corpus.unit).startswith("4 rows of 16 patches, ")
    with pytest.raises(InputError, match="has the schema image; `deduplicate: {against"):
        overlap("tiny", "tiny", store=str(tmp_path / "store"))


def test_a_quieter_copy_of_a_sound_is_a_near_duplicate(lab, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for seed in range(4):
        soundfile.write(files / f"{seed}.wav", _tune(seed), 8000)
    soundfile.write(files / "copy.flac", _tune(2) // 3, 8000)
    lab.run(_recipe(lab, tmp_path, "audio"), tmp_path / "store")
    corpus = open_corpus("tiny", store=str(tmp_path / "store"))
    edges = lab.frame(corpus, "duplicates")
    assert edges["kind"].to_list() == ["near"]
    html = build_report(corpus).html
    assert "Frames kept" in html
    assert 'class="wave"' in html
    assert "landmarks: pairs of spectral peaks" in html


def _stroke(seed):
    """Return a bright line on black: such images share blocks of their hashes and few are twins."""
    rng = np.random.default_rng(seed)
    made = Image.new("L", (20, 20))
    ends = [tuple(rng.integers(2, 18, 2).tolist()) for _ in range(3)]
    ImageDraw.Draw(made).line(ends, fill=255, width=3)
    return made


def test_drawings_that_share_blocks_are_compared_only_where_their_hashes_are_near(lab, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for seed in range(60):
        _stroke(seed).save(files / f"{seed}.png")
        if seed % 20 == 0:
            _stroke(seed).resize((40, 40)).save(files / f"{seed}-large.png")
    found = {}
    for most in (1000, 2):  # all pairs of a bucket, or almost every bucket crowded
        recipe = _recipe(lab, tmp_path, "image", deduplicate={"near": {"max_bucket": most}})
        lab.run(recipe, tmp_path / "store")
        corpus = open_corpus("tiny", store=str(tmp_path / "store"))
        counts = corpus.manifest("deduplicate").counts
        assert (counts["hot_documents"] > 0) == (most == 2)
        gone = lab.frame(corpus, "verdicts").filter(~pl.col("kept"))
        found[most] = sorted(gone["doc_id"]), counts["candidates"]
    assert found[1000][0] == found[2][0] != []
    shards = corpus.shards("documents")
    media = pa.concat_arrays(
        [read_shard(corpus.store.storage, s)["media"].combine_chunks() for s in shards]
    )
    hashes, _ = hashes_of(media)
    left, right = np.triu_indices(hashes.size, 1)
    keys = PerceptualScheme().keys(hashes)
    assert found[1000][1] == int((hamming(hashes[left], hashes[right]) <= 8).sum())
    assert found[1000][1] < int((keys[left] == keys[right]).any(axis=1).sum())


def _parsed(kind, **near):
    settings = "".join(f"    {name}: {value}\n" for name, value in near.items())
    return parse_recipe(
        f"name: a\nschema: {kind}\nsources: [{{name: s, paths: ['*']}}]\n"
        + ("tokenize: {image: {size: 8, channels: 1, patch: 4}}\n" if kind == "image" else "")
        + (f"deduplicate:\n  near:\n{settings}" if near else "")
    )


def test_each_kind_of_media_has_its_own_defaults_and_reads_back_what_it_wrote():
    image, sound, text = (_parsed(kind) for kind in ("image", "audio", "text"))
    assert (image.deduplicate.near.distance, image.deduplicate.near.threshold) == (8, 0.875)
    assert image.deduplicate.keep.startswith("image_megapixels")
    assert (sound.deduplicate.near.bands, sound.deduplicate.near.threshold) == (60, 0.2)
    assert (text.deduplicate.near.distance, text.deduplicate.near.threshold) == (None, 0.8)
    assert _parsed("image", distance=4).deduplicate.near.threshold == 1 - 4 / 64
    for one in (image, sound, text):
        assert type(one).model_validate(one.model_dump(mode="json")).deduplicate == one.deduplicate


@pytest.mark.parametrize(
    ("kind", "near"),
    [("image", {"shingle": "3 words"}), ("audio", {"distance": 3}), ("text", {"distance": 3}),
     ("image", {"threshold": 0.5}), ("text", {"similarity": "perceptual"})],
)  # fmt: skip
def test_what_means_nothing_for_a_kind_is_refused(kind, near):
    (name,) = near
    with pytest.raises(InputError, match=rf"near.{name} means nothing for {kind}"):
        _parsed(kind, **near)


def test_signals_of_media_are_measured_where_there_is_any():
    always, wanted = families_of(_parsed("image"), [])
    assert (always, wanted) == (["document", "image"], [])
    assert "gopher" in families_of(_parsed("text"), [])[0]
    assert "image" not in families_of(_parsed("text"), [])[0]
    with pytest.raises(InputError, match="image_width is measured on corpora with schema: image"):
        families_of(_parsed("text"), ["image_width"])
