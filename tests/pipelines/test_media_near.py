"""Near-duplicates of images and sounds through the passes that texts go through."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from curate.corpus.errors import InputError
from pipelines.corpus import open_corpus, why
from pipelines.demanded import families_of
from pipelines.explain import explain
from pipelines.recipe import parse_recipe
from pipelines.report.page import build_report


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
