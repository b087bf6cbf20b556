"""Signals, hashes and fingerprints of media: slow twins and laws, on generated files."""

import io
from itertools import combinations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import soundfile
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import laplace

from curate.corpus.errors import InputError
from curate.media.fingerprints import FingerprintScheme, landmarks
from curate.media.perceptual import (
    LIKENESS,
    WORDS,
    PerceptualScheme,
    hamming,
    likeness,
    perceptual_hash,
    similarities,
    views_of,
)
from curate.rules.preset import load_preset, preset_rules
from curate.rules.verdict import evaluate
from curate.signals.registry import available_columns, families, measure_families

RATE = 8000


def picture(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """Some coloured discs on a gradient."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]]
    canvas = np.stack([x * 2, y * 3, (x + y)], axis=-1).astype(np.float64) % 256
    for _ in range(5):
        at, radius = rng.uniform(0, size, 2), rng.uniform(6, 20)
        inside = (x - at[0]) ** 2 + (y - at[1]) ** 2 < radius**2
        canvas[inside] = rng.uniform(0, 255, 3)
    return Image.fromarray(canvas.astype(np.uint8))


def written(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def sound(seed: int, seconds: float = 1.5, rate: int = RATE) -> np.ndarray:
    """A tune of chirps, int16 [S]."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    waves = np.zeros_like(t)
    for start in np.arange(0, seconds, 0.1):
        f, bend = rng.uniform(200, 2500), rng.uniform(-2000, 2000)
        since = np.clip(t - start, 0, None)
        waves += np.sin(2 * np.pi * (f + bend * since) * since) * np.exp(-since * 12) * (t >= start)
    return (waves / np.abs(waves).max() * 20000).astype(np.int16)


def wav(samples: np.ndarray, rate: int = RATE, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype="PCM_16")
    return file.getvalue()


def media(*files: bytes | None) -> pa.Array:
    return pa.array(files, pa.large_binary())


def rows(name: str, *files: bytes | None) -> list[dict]:
    return families()[name].measure(media(*files)).to_pylist()


def test_the_numbers_of_an_image_equal_their_plain_twins():
    image = picture(1)
    (row,) = rows("image", written(image))
    gray = np.asarray(image.convert("L"), dtype=np.float64)
    counts = np.bincount(gray.astype(int).ravel(), minlength=256) / gray.size
    inner = laplace(gray)[1:-1, 1:-1]
    red, green, blue = (np.asarray(image, dtype=np.float64)[..., k] for k in range(3))
    warm, cold = red - green, (red + green) / 2 - blue
    colour = np.hypot(warm.std(), cold.std()) + 0.3 * np.hypot(warm.mean(), cold.mean())
    assert (row["image_width"], row["image_height"], row["image_min_side"]) == (80, 60, 60)
    assert (row["image_format"], row["image_mode"], row["image_channels"]) == ("png", "RGB", 3)
    assert row["image_aspect"] == pytest.approx(4 / 3)
    assert row["image_brightness"] == pytest.approx(gray.mean() / 255)
    assert row["image_contrast"] == pytest.approx(gray.std() / 255)
    assert row["image_entropy"] == pytest.approx(
        -(counts[counts > 0] * np.log2(counts[counts > 0])).sum()
    )
    assert row["image_sharpness"] == pytest.approx(inner.var())
    assert row["image_colourfulness"] == pytest.approx(colour)


def test_a_blank_image_a_transparent_one_and_no_image():
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    blank, through, none, broken, nothing = rows(
        "image",
        written(Image.new("L", (20, 20), 255)),
        written(clear),
        b"text",
        b"\x89PNG\r\n\x1a\n",
        None,
    )
    for row in (blank, through):  # what is clear is laid on white
        assert (row["image_entropy"], row["image_blank_fraction"], row["image_brightness"]) == (
            0,
            1,
            1,
        )
    assert none == broken == nothing == dict.fromkeys(families()["image"].signals)


def test_a_large_image_is_measured_on_whole_blocks_of_it():
    small = picture(2, (600, 400))
    large = small.resize((2400, 1600), Image.Resampling.NEAREST)
    a, b = rows("image", written(small), written(large))
    assert b["image_megapixels"] == 16 * a["image_megapixels"]
    for name in ("image_entropy", "image_brightness", "image_sharpness", "image_colourfulness"):
        assert a[name] == b[name], name


def test_the_numbers_of_a_sound_equal_their_plain_twins():
    samples = np.stack([sound(1), sound(2)], axis=1)
    samples[:4000] = 0
    samples[5000:5008] = 32767
    (row,) = rows("audio", wav(samples))
    unit = samples / 32768
    level = np.sqrt((unit[: len(unit) // 160 * 160].reshape(-1, 320) ** 2).mean(axis=1))
    assert (row["audio_sample_rate"], row["audio_channels"]) == (RATE, 2)
    assert row["audio_duration_s"] == len(samples) / RATE
    assert row["audio_silence_fraction"] == pytest.approx((level < 1e-3).mean())
    assert row["audio_clipped_fraction"] == 16 / samples.size
    assert row["audio_peak_dbfs"] == pytest.approx(20 * np.log10(unit.max()))
    assert row["audio_rms_dbfs"] == pytest.approx(10 * np.log10((unit**2).mean()))
    assert row["audio_dc_offset"] == pytest.approx(unit.mean())


def test_a_sound_of_floats_is_as_loud_as_one_of_integers():
    file = io.BytesIO()
    soundfile.write(file, sound(1) / 32768, RATE, format="WAV", subtype="FLOAT")
    a, b = rows("audio", wav(sound(1)), file.getvalue())
    assert a | {"audio_num_bytes": 0} == b | {"audio_num_bytes": 0}


def test_silence_has_no_level_and_what_is_no_sound_has_nothing():
    silent, none = rows("audio", wav(np.zeros(100, np.int16)), b"RIFF")
    assert silent["audio_peak_dbfs"] is silent["audio_rms_dbfs"] is None
    assert silent["audio_silence_fraction"] == 1
    assert none == dict.fromkeys(families()["audio"].signals)


@pytest.mark.parametrize("name", ["image", "audio"])
def test_any_split_of_a_column_of_media_gives_the_same_numbers(name):
    files = media(written(picture(1)), None, wav(sound(1)), b"?", written(picture(2), "JPEG"))
    family = families()[name]
    whole = family.measure(files)
    parts = [family.measure(files.slice(at, 2)) for at in (0, 2, 4)]
    assert pa.concat_tables(parts).equals(whole)


def test_the_hash_is_the_sign_of_the_low_frequencies_about_their_median():
    for seed in range(40):
        gray = np.asarray(picture(seed).convert("L").resize((32, 32)))
        low = dctn(gray.astype(np.float64))[1:9, 1:9].ravel()
        gap = np.abs(low - np.median(low))
        bits = np.unpackbits(np.frombuffer(perceptual_hash(gray).to_bytes(8, "big"), np.uint8))
        sure = gap > 1  # cosines are rounded to 14 bits
        assert (bits.astype(bool) == (low > np.median(low)))[sure].all()


def test_hashes_within_the_distance_always_share_a_key():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 1 << 63, 30, dtype=np.uint64)
    near = base.copy()
    for row, count in enumerate(rng.integers(0, 13, 30)):
        for bit in rng.choice(64, count, replace=False):
            near[row] ^= np.uint64(1 << int(bit))
    hashes = np.concatenate([base, near])
    pairs = list(combinations(range(60), 2))
    for distance, spare in ((0, 1), (4, 2), (8, 3), (8, 4)):
        scheme = PerceptualScheme(distance=distance, spare=spare)
        keys = scheme.keys(hashes)
        assert keys.shape == (60, scheme.bands)
        found = {(i, j) for i, j in pairs if (keys[i] == keys[j]).any()}
        true = {
            (i, j) for i, j in pairs if hamming(hashes[i : i + 1], hashes[j : j + 1])[0] <= distance
        }
        assert true <= found


def test_copies_are_like_and_another_colour_or_stroke_is_not():
    image = picture(3, (64, 64))
    other = np.asarray(image).copy()
    other[8:24, 8:24] = 255 - other[8:24, 8:24]
    swapped = Image.fromarray(np.ascontiguousarray(np.asarray(image)[..., ::-1]))
    files = [
        written(image),
        written(image.resize((128, 128))),
        written(image, "JPEG", quality=60),
        written(Image.eval(image, lambda v: v * 0.7 + 20)),
        written(Image.fromarray(other)),
        written(swapped),
    ]
    views, seen = views_of(media(*files))
    assert seen.all()
    alike = likeness(np.repeat(views[:1, 1:], len(files), axis=0), views[:, 1:])
    assert (alike[:4] > LIKENESS).all()
    assert (alike[4:] < LIKENESS).all()
    offsets = np.arange(len(files) + 1) * WORDS
    pairs = np.array([[0, k] for k in range(len(files))])
    found = similarities(pairs, views.reshape(-1), offsets)
    assert found[0] == 1
    assert (found[1:4] >= 1 - 8 / 64).all()
    assert (found[4:] == 0).all()


def test_likeness_is_the_least_of_the_blocks_by_definition():
    views, _ = views_of(media(*(written(picture(seed)) for seed in range(6))))
    for i, j in combinations(range(6), 2):
        thumbs = [views[k, 1:].astype("<u8").view(np.uint8).astype(float) for k in (i, j)]
        a, b = ((v - v.mean()) / v.std() for v in thumbs)
        apart = ((a - b) ** 2).reshape(8, 4, 8, 4, 3).mean(axis=(1, 3, 4))
        (found,) = likeness(views[i : i + 1, 1:], views[j : j + 1, 1:])
        assert found == pytest.approx(1 - apart.max() / 2)


def test_flat_images_are_alike_when_their_tone_is():
    tones = [written(Image.new("RGB", (30, 30), (v, v, v))) for v in (100, 102, 200)]
    views, _ = views_of(media(*tones))
    left, right = views[[0, 0], 1:], views[[1, 2], 1:]
    assert likeness(left, right).tolist() == [1, 0]


def test_landmarks_survive_gain_rate_and_trim_and_differ_between_tunes():
    def jaccard(a, b):
        return np.intersect1d(a, b).size / np.union1d(a, b).size

    tune = sound(5)
    base = landmarks(tune[:, None], RATE)
    finer = np.interp(np.arange(2 * len(tune)) / 2, np.arange(len(tune)), tune)
    assert base.size > 100
    assert jaccard(base, landmarks((tune // 4)[:, None], RATE)) > 0.6
    assert jaccard(base, landmarks(tune[400:, None], RATE)) > 0.3
    assert jaccard(base, landmarks(finer.astype(np.int16)[:, None], 2 * RATE)) > 0.3
    assert jaccard(base, landmarks(sound(6)[:, None], RATE)) < 0.1
    assert landmarks(np.zeros((0, 1), np.int16), RATE).size == 0
    assert landmarks(np.zeros((999, 2), np.int16), RATE).size == 0


@pytest.mark.parametrize(
    "scheme", [PerceptualScheme(), FingerprintScheme()], ids=["image", "sound"]
)
def test_any_split_gives_the_same_keys_and_sets_and_nothing_counts_for_none(scheme):
    files = media(
        *(written(picture(k)) for k in range(3)), None, wav(sound(1)), b"?", wav(sound(2))
    )
    whole = scheme.sketch(files)
    parts = [scheme.sketch(files.slice(at, 2)) for at in range(0, 7, 2)]
    assert np.array_equal(whole.keys, np.concatenate([part.keys for part in parts]))
    assert np.array_equal(whole.num_shingles, np.concatenate([p.num_shingles for p in parts]))
    values, offsets = scheme.sets(files)
    assert offsets[-1] == values.size
    assert (np.diff(offsets)[[3, 5]] == 0).all()
    assert whole.num_shingles[3] == whole.num_shingles[5] == 0


def test_a_distance_beyond_what_means_anything_is_refused():
    with pytest.raises(InputError, match="distance should be 0 to 16 of 64 bits, got 40"):
        PerceptualScheme(distance=40)


def test_the_presets_of_media_catch_what_they_name_and_spare_the_rest():
    quiet, loud = np.zeros(RATE, np.int16), np.full(RATE, 32767, np.int16)
    cases = {
        "image_basic@preceptor": (
            [written(picture(1))],
            [written(Image.new("L", (64, 64), 9)), written(picture(1, (200, 17)))],
        ),
        "audio_basic@preceptor": ([wav(sound(1))], [wav(quiet), wav(loud), wav(sound(1)[:99])]),
        "image_basic@conceptual_captions": (
            [written(picture(1, (500, 450)), "JPEG")],
            [written(picture(1, (500, 450))), written(picture(1), "JPEG")],
        ),
    }
    for name, (good, bad) in cases.items():
        rules = preset_rules(name, available_columns())
        table = pa.table({"media": media(*good, *bad), "text": [""] * len(good + bad)})
        table = table.set_column(1, "text", table["text"].cast(pa.large_string()))
        chosen = [families()[name.partition("_")[0]]]
        passes = evaluate(rules, pl.DataFrame(measure_families(table, chosen)))
        kept = passes.select(pl.all_horizontal(pl.all())).to_series().to_list()
        assert kept == [True] * len(good) + [False] * len(bad), name
        assert load_preset(name).reference
