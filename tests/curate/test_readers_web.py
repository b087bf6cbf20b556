"""Web archives and pages: each record is a page, none by its kind, or a reject that says why."""

import base64
import functools
import gzip
import hashlib
import io
import json
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers import boilerplate
from curate.readers.base import RECORDS, InputFile, Reject, Slice
from curate.readers.boilerplate import (
    is_boilerplate,
    stop_words,
    with_hidden_prose,
    without_boilerplate,
)
from curate.readers.columns import Problem
from curate.readers.discover import open_stream
from curate.readers.html_text import Page, decode, extract
from curate.readers.http_body import decoded_body
from curate.readers.registry import reader_for, reader_named
from curate.readers.warc import digest_differs, frames

PROSE = "It is one of the sentences that a reader has come to this page for, and it stays."
Rows = list[dict[str, Any]]


def read(data: bytes, path: str = "a.warc", **options: Any) -> tuple[Rows, list[Reject]]:
    reader = reader_for(path)[0]
    part = Slice(InputFile("test:", path, len(data), "1"))
    rows: Rows = []
    rejects: list[Reject] = []
    for batch in reader.read(part, lambda: io.BytesIO(data), {"options": options}):
        assert batch.records.schema.equals(RECORDS)
        batch.records.validate(full=True)
        rows += batch.records.to_pylist()
        rejects += batch.rejects
    return rows, rejects


def read_file(path: Path) -> tuple[Rows, list[Reject]]:
    reader, compression = reader_for(path.name)
    file = InputFile(str(path), path.name, path.stat().st_size, "1")
    rows: Rows = []
    rejects: list[Reject] = []
    for batch in reader.read(Slice(file), functools.partial(open_stream, file, compression), {}):
        rows += batch.records.to_pylist()
        rejects += batch.rejects
    return rows, rejects


def reasons(rejects: list[Reject]) -> list[str]:
    return [reject.reason for reject in rejects]


def record(body: bytes, kind: str = "response", number: int = 1, **fields: str) -> bytes:
    said = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{number}>",
        "WARC-Date": "2020-01-02T03:04:05Z",
        "WARC-Target-URI": f"https://example.org/{number}",
        "Content-Type": "application/http; msgtype=response",
        "Content-Length": str(len(body)),
    }
    said |= {name.replace("_", "-"): value for name, value in fields.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return b"WARC/1.0\r\n" + head.encode() + b"\r\n" + body + b"\r\n\r\n"


def http(page: bytes, status: str = "200 OK", **fields: str) -> bytes:
    said = {"Content-Type": "text/html", **{k.replace("_", "-"): v for k, v in fields.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + page


def page(number: int = 1, text: str = PROSE) -> bytes:
    return f"<html><title>T{number}</title><body><p>{number} {text}</p></body></html>".encode()


# --- archives ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cc_licensed_pages.warc.gz", 23),
        ("commoncrawl_whirlwind.warc.gz", 1),
        ("commoncrawl_whirlwind.warc.wet.gz", 1),
    ],
)
def test_real_archives_give_every_page_and_nothing_else(shared_data, name, count):
    rows, rejects = read_file(shared_data / "web" / name)
    assert (len(rows), rejects) == (count, [])
    assert all(row["url"].startswith("http") and row["key"] for row in rows)
    assert all(row["timestamp"].endswith("Z") for row in rows)


def test_licences_are_those_that_the_pages_state(shared_data):
    lines = (shared_data / "web" / "cc_licensed_pages.manifest.tsv").read_text().splitlines()[1:]
    stated = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
    rows, _ = read_file(shared_data / "web" / "cc_licensed_pages.warc.gz")
    found = {row["url"]: row["license"] for row in rows if row["license"]}
    assert found == stated  # four pages of creativecommons.org by a relative link in a block


def test_the_body_stays_and_the_navigation_goes_in_six_languages(shared_data):
    path = shared_data / "web" / "debian_handbook_6lang.warc.gz"
    wanted = {"stable", "de-DE", "fr-FR", "es-ES", "ru-RU", "ja-JP"}
    seen: Counter[str] = Counter()
    with gzip.open(path) as stream:
        for frame in frames(stream, 1 << 24):
            if b"WARC-Type: response" not in frame.head or b"/sect.apt-get.html" not in frame.head:
                continue
            language = frame.head.split(b"/browse/")[1].split(b"/")[0].decode()
            seen[language] += 1
            html = frame.body.split(b"\r\n\r\n", 1)[1]
            found = extract(html, charset="utf-8")
            assert isinstance(found, Page)
            bottom = html[html.rindex(b'<ul class="docnav">') :].decode()
            for entry in ("previous", "home", "next"):
                label = bottom.split(f'class="{entry}"')[1].split("<strong>")[1].split("<")[0]
                assert label not in found.text.splitlines()
            whole = extract(html, charset="utf-8", main_content=False)
            assert isinstance(whole, Page)
            kept = {"".join(line.split()) for line in found.text.splitlines()}
            long = ["".join(line.split()) for line in whole.text.splitlines() if len(line) > 150]
            assert len(long) > 20
            # Boxes in the text are of the class "sidebar", which extraction by names drops.
            assert sum(line in kept for line in long) >= 0.9 * len(long), language
    assert set(seen) == wanted


def test_a_response_becomes_a_document_and_the_records_around_it_none():
    data = (
        record(b"software: x\r\n", "warcinfo", 1, Content_Type="application/warc-fields")
        + record(b"GET / HTTP/1.1\r\n\r\n", "request", 2)
        + record(http(page(3)), "response", 3, WARC_Concurrent_To="<urn:uuid:2>")
        + record(b"fetchTimeMs: 3\r\n", "metadata", 4, WARC_Concurrent_To="<urn:uuid:3>")
        + record(b"HTTP/1.1 304 Not Modified\r\n\r\n", "revisit", 5)
        + record(b"1.2.3.4", "response", 6, WARC_Target_URI="dns:example.org")
    )
    rows, rejects = read(data)
    assert rejects == []
    assert rows == [
        {
            "text": f"3 {PROSE}",
            "key": "urn:uuid:3",
            "url": "https://example.org/3",
            "license": None,
            "timestamp": "2020-01-02T03:04:05Z",
            "position": data.index(b"WARC/1.0\r\nWARC-Type: response"),
            "meta": '{"title":"T3"}',
        }
    ]


def test_headers_are_read_as_crawlers_write_them():
    whole = record(http(page()))
    head, _, rest = whole.partition(b"\r\n\r\n")
    lower = head.replace(b"WARC-Type", b"warc-type").replace(b"Content-Length", b"content-length")
    for data in (
        lower + b"\r\n\r\n" + rest,
        head.replace(b"\r\n", b"\n") + b"\n\n" + rest,
        whole.replace(b"WARC/1.0", b"WARC/1.1"),
        whole.replace(b"https://example.org/1", b"<https://example.org/1>"),
        whole.rstrip(b"\r\n"),
        b"\r\n" + whole + b"\r\n\r\n",
        record(b"HTTP/2 200\ncontent-type: TEXT/HTML;charset=UTF-8\nx: caf\xe9\n\n" + page()),
        record(b"HTTP/1.1 200\r\nno header line\r\n\r\n" + page()),
    ):
        rows, rejects = read(data)
        assert rejects == []
        assert [(row["key"], row["url"]) for row in rows] == [
            ("urn:uuid:1", "https://example.org/1")
        ]


def test_two_visits_of_one_address_are_two_documents():
    visits = [record(http(page(n)), number=n, WARC_Target_URI="https://a.org/") for n in (1, 2)]
    rows, _ = read(b"".join(visits))
    assert [row["key"] for row in rows] == ["urn:uuid:1", "urn:uuid:2"]


@pytest.mark.parametrize(
    ("body", "fields", "reason", "said"),
    [
        (http(page(), "404 Not Found"), {}, "http_status", "404"),
        (http(b"\x89PNG", Content_Type="image/png"), {}, "not_text", "image/png"),
        (http(page(), Content_Type="application/pdf"), {}, "not_text", "application/pdf"),
        (http(page()), {"WARC_Block_Digest": "sha1:" + "A" * 32}, "mismatch", "digest"),
        (http(page()), {"WARC_Truncated": "length"}, "truncated", "length"),
        (b"no HTTP at all", {}, "invalid_warc", "HTTP"),
        (http(b""), {}, "no_text", "empty"),
        (http(b"<html><body></body></html>"), {}, "no_text", "no text"),
        (http(page()), {"WARC_Type": "continuation"}, "invalid_warc", "continuation"),
        (http(page(), Content_Encoding="weird"), {}, "not_text", "weird"),
    ],
)
def test_a_record_without_a_page_is_a_reject_that_says_why(body, fields, reason, said):
    rows, rejects = read(record(body, **fields) + record(http(page(2)), number=2))
    assert reasons(rejects) == [reason]
    assert said in rejects[0].detail
    assert len(rows) == 1


def test_options_keep_what_is_refused_by_default():
    cut = record(http(page()), WARC_Truncated="length")
    wrong = record(http(page()), WARC_Block_Digest="sha1:" + "A" * 32)
    rows, _ = read(cut, truncated=True)
    assert json.loads(rows[0]["meta"])["truncated"] == "length"
    assert len(read(wrong, verify_digests=False)[0]) == 1
    with pytest.raises(InputError, match="Did you mean 'links'"):
        read(cut, link=True)
    with pytest.raises(InputError, match="write it as False"):
        read(cut, links="yes")


def test_links_are_kept_on_request_absolute_and_once():
    html = b'<p>See <a href="/b#x">b</a>, <a href=/b>b</a>, <a href="mailto:x@y">m</a>.</p>'
    rows, _ = read(record(http(html)), links=True, main_content=False)
    assert json.loads(rows[0]["meta"])["links"] == ["https://example.org/b"]


def test_plain_text_and_resources_are_read_as_they_are():
    text = "Nur Text.\n\n  Mit Absatz, caf\u00e9."
    data = record(http(text.encode(), Content_Type="text/plain; charset=utf-8"))
    data += record(page(2), "resource", 2, Content_Type="text/html; charset=utf-8")
    data += record(text.encode("latin-1"), "resource", 3, Content_Type="text/plain")
    data += record(text.encode(), "conversion", 4, Content_Type="text/plain")
    rows, rejects = read(data)
    assert rejects == []
    assert [row["text"] for row in rows] == [text, f"2 {PROSE}", text, text]


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_digests_are_checked_in_every_usual_spelling(algorithm):
    value = hashlib.new(algorithm, b"block").digest()
    for spelled in (base64.b32encode(value).decode(), value.hex(), value.hex().upper()):
        assert not digest_differs(f"{algorithm}:{spelled}", b"block")
        assert digest_differs(f"{algorithm}:{spelled}", b"blocks")
    assert not digest_differs("blake9:123", b"block")


# --- damage ------------------------------------------------------------------------------------


def test_reading_goes_on_behind_a_damaged_record():
    good = [record(http(page(n)), number=n) for n in range(4)]
    length = len(http(page(0)))
    damages = {
        "garbage": good[0] + b"garbage\r\nmore\r\n\r\n" + b"".join(good[1:]),
        "no length": good[0].replace(b"Content-Length", b"Content-Lengtx") + b"".join(good[1:]),
        "too long": good[0].replace(b"%d\r\n\r\nH" % length, b"%d\r\n\r\nH" % (length + 90))
        + b"".join(good[1:]),
        "far too long": good[0].replace(b"%d\r\n\r\nH" % length, b"9%d\r\n\r\nH" % length)
        + b"".join(good[1:]),
        "too short": good[0].replace(b"%d\r\n\r\nH" % length, b"%d\r\n\r\nH" % (length - 9))
        + b"".join(good[1:]),
        "no header end": b"WARC/1.0\r\nWARC-Type: response\r\n" + b"".join(good),
    }
    for name, data in damages.items():
        rows, rejects = read(data)
        assert {row["key"] for row in rows} >= {f"urn:uuid:{n}" for n in (1, 2, 3)}, name
        assert set(reasons(rejects)) == {"invalid_warc"}, name


def test_a_file_cut_short_says_so_and_keeps_the_part_before():
    data = record(http(page(1)), number=1) + record(http(page(2)), number=2)
    middle = len(record(http(page(1)), number=1))
    for stop in (middle + 12, middle + 200, len(data) - 40):
        rows, rejects = read(data[:stop])
        assert ([row["key"] for row in rows], reasons(rejects)) == (["urn:uuid:1"], ["truncated"])


def test_compressed_archives_cut_or_damaged_raise_behind_what_could_be_read(tmp_path):
    members = [gzip.compress(record(http(page(n)), number=n)) for n in range(3)]
    whole = b"".join(members)
    path = tmp_path / "a.warc.gz"
    path.write_bytes(whole)
    assert len(read_file(path)[0]) == 3
    path.write_bytes(whole[:-90])
    reader, compression = reader_for("a.warc.gz")
    file = InputFile(str(path), "a.warc.gz", 1, "1")
    batches = reader.read(Slice(file), functools.partial(open_stream, file, compression), {})
    assert next(batches).records.num_rows == 2
    with pytest.raises(UnreadableFileError) as caught:
        next(batches)
    assert caught.value.reason == "truncated"


ARCHIVE = b"".join(
    [
        record(b"a: b\r\n", "warcinfo", 0, Content_Type="application/warc-fields"),
        *(record(http(page(n)), number=n) for n in (1, 2)),
        record(http(gzip.compress(page(3)), Content_Encoding="gzip"), number=3),
        record(b"plain text", "conversion", 4, Content_Type="text/plain"),
    ]
)


@given(st.integers(0, len(ARCHIVE)))
def test_however_an_archive_is_cut_nothing_is_lost_without_a_word(stop):
    rows, rejects = read(ARCHIVE[:stop])
    starts = [at for at in range(stop) if ARCHIVE.startswith(b"WARC/1.0", at)]
    pages = [at for at in starts if not ARCHIVE.startswith(b"WARC/1.0\r\nWARC-Type: warcinfo", at)]
    assert len(rows) + len(rejects) >= len(pages)
    assert len(rejects) <= 1


@given(st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), max_size=6))
def test_flipped_bytes_give_rejects_and_never_another_exception(flips):
    data = bytearray(ARCHIVE)
    for at, value in flips:
        data[at] = value
    rows, rejects = read(bytes(data))
    assert len(rows) + len(rejects) >= 1
    assert all(row["text"] for row in rows)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_archive_are_one_reject_or_nothing(data):
    rows, rejects = read(data)
    assert rows == []
    assert bool(rejects) == bool(data.strip())


def test_wrong_lengths_everywhere_are_read_in_linear_time():
    bad = b"WARC/1.0\r\nContent-Length: 9999999\r\n\r\nx\r\n\r\n" * 3000
    began = time.monotonic()
    _, rejects = read(bad)
    assert len(rejects) == 3000
    assert time.monotonic() - began < 20


# --- HTTP bodies -------------------------------------------------------------------------------


CHUNKED = b"5\r\n%b\r\n%x;x=y\r\n%b\r\n0\r\n\r\n" % (page()[:5], len(page()) - 5, page()[5:])


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (gzip.compress(page()), {"content-encoding": "gzip"}),
        (gzip.compress(page()[:30]) + gzip.compress(page()[30:]), {"content-encoding": "x-gzip"}),
        (zlib.compress(page()), {"content-encoding": "deflate"}),
        (zlib.compress(page())[2:-4], {"content-encoding": "deflate"}),
        (CHUNKED, {"transfer-encoding": "chunked"}),
        (page(), {"content-encoding": "gzip"}),  # the crawler unwrapped it, and left the header
        (page(), {"transfer-encoding": "chunked", "content-encoding": "br"}),
        (gzip.compress(gzip.compress(page())), {"content-encoding": "gzip, gzip"}),
    ],
)  # fmt: skip
def test_wrapped_bodies_are_unwrapped(data, headers):
    assert decoded_body(data, headers, 1 << 20) == page()


@pytest.mark.parametrize(
    ("data", "headers", "reason"),
    [
        (gzip.compress(page())[:-12], {"content-encoding": "gzip"}, "truncated"),
        (gzip.compress(page(), mtime=0)[:20] + b"\xff\xff\xff", {"content-encoding": "gzip"}, None),
        (b"ff\r\nshort", {"transfer-encoding": "chunked"}, "truncated"),
        (gzip.compress(bytes(1 << 24)), {"content-encoding": "gzip"}, "expands_too_much"),
        (page(), {"content-encoding": "gzip,gzip,gzip,gzip"}, "expands_too_much"),
        (b"\x28\xb5\x2f\xfd", {"content-encoding": "zstd"}, "invalid_warc"),
    ],
)
def test_bodies_that_cannot_be_unwrapped_say_why(data, headers, reason):
    found = decoded_body(data, headers, 1 << 26)
    assert isinstance(found, Problem)
    assert found.reason == (reason or found.reason)


# --- pages -------------------------------------------------------------------------------------


def test_a_page_says_its_title_address_language_licence_and_date():
    html = b"""<html lang="pt_BR"><head><title> A
      b</title><link rel="canonical" href="/c"><meta property="article:published_time"
      content="2021-05-06T07:08:09+02:00"></head><body><p>Texto com palavras.</p>
      <a rel="license nofollow" href="http://creativecommons.org/licenses/by-nc/2.5/br/">x</a>"""
    found = extract(html, base="https://a.org/b")
    assert isinstance(found, Page)
    assert (found.title, found.url, found.language) == ("A b", "https://a.org/c", "pt-BR")
    assert (found.license, found.published) == ("CC-BY-NC-2.5", "2021-05-06T05:08:09Z")


def test_two_licences_on_one_page_are_told_and_none_is_chosen():
    link = b'<a rel=license href="https://creativecommons.org/licenses/%b/4.0/">x</a>'
    found = extract(b"<p>text</p>" + link % b"by" + link % b"by-sa")
    assert isinstance(found, Page)
    assert (found.license, found.licenses) == (None, ["CC-BY-4.0", "CC-BY-SA-4.0"])
    odd = extract(b'<p>text</p><a rel=license href="a\x01]\'\\">x</a><meta name=date content=x>')
    assert isinstance(odd, Page)
    many = b"".join(b"<a rel=license href=/%d>x</a>" % n for n in range(3000))
    found = extract(b"<p>text</p>" + many)
    assert isinstance(found, Page)
    assert found.licenses == [f"/{n}" for n in range(5)]


CC, LINK = "https://creativecommons.org/", '<a href="/licenses/by/4.0/">x</a>'


@pytest.mark.parametrize(
    ("markup", "base", "license_"),
    [
        ('<a rel=license href="/licenses/by/4.0/">x</a>', CC, "CC-BY-4.0"),
        ('<a rel=license href="../../by-sa/3.0/">x</a>', f"{CC}licenses/by/4.0/", "CC-BY-SA-3.0"),
        ('<a rel=license href="//creativecommons.org/licenses/by/4.0/">x</a>', None, "CC-BY-4.0"),
        ('<a rel=license href="/by/4.0/">x</a>', "https://a.org/b", "https://a.org/by/4.0/"),
        ('<a rel=license href="/terms">x</a>', None, "/terms"),
        ('<a rel=license href="http://[">x</a>', "https://a.org/b", "http://["),
        ('<p class="a license"><a href="/licenses/">y</a>' + LINK, CC, "CC-BY-4.0"),
        ('<p class="license">' + LINK, "https://a.org/b", None),
        ('<p class="license">' + LINK, None, None),
        ('<p class="license-area">' + LINK, CC, None),
        ("<p>" + LINK, CC, None),
        ('<p property="cc:license" content="CC BY 4.0">x</p>', "https://a.org/b", "CC BY 4.0"),
    ],
)
def test_a_relative_licence_is_that_of_the_pages_own_address(markup, base, license_):
    found = extract(f"<p>some text</p>{markup}".encode(), base=base)
    assert isinstance(found, Page)
    assert found.license == license_


@pytest.mark.parametrize(
    ("data", "charset"),
    [
        ("\ufeffd\u00e9j\u00e0".encode(), "latin-1"),
        ("\ufeffd\u00e9j\u00e0".encode("utf-16-le"), None),
        ("\ufeffd\u00e9j\u00e0".encode("utf-16-be"), "utf-8"),
        ("d\u00e9j\u00e0".encode("latin-1"), "iso-8859-1"),
        ("d\u00e9j\u00e0".encode(), None),
        ("d\u00e9j\u00e0".encode(), "us-ascii"),
        ("d\u00e9j\u00e0".encode("cp1252"), "utf-8"),
        ("d\u00e9j\u00e0".encode(), "unicode_escape"),
        ("d\u00e9j\u00e0".encode(), "base64"),
    ],
)
def test_the_encoding_is_the_stated_one_unless_the_bytes_say_otherwise(data, charset):
    assert decode(data, charset)[0] == "d\u00e9j\u00e0"


def test_lone_characters_between_links_are_not_lost():
    html = (
        "<p>From <a href=a>1979</a>\u2013<a href=b>1983</a>, <b>\u5b89\u5b9a</b>\u3084<b>x</b></p>"
    )
    found = extract(html.encode() + f"<p>{PROSE}</p>".encode())
    assert isinstance(found, Page)
    assert "1979\u20131983" in found.text
    assert "\u5b89\u5b9a\u3084x" in found.text


def test_menus_buttons_and_cookie_banners_go_and_sentences_about_them_stay():
    lines = [
        ("Startseite", 10),
        ("Wir verwenden Cookies. Wenn Sie weitersurfen, stimmen Sie zu und akzeptieren das.", 0),
        ("Kekse", 0),
        ("In diesem Text geht es um Cookies und darum, wie sie die Seiten im Netz speichern.", 0),
        ("", 0),
        *[(f"Kapitel {n}", 9) for n in range(4)],
        ("Die Kapitel sind alle gleich lang, aber nicht alle sind gleich gut geworden.", 0),
        ("Weiterlesen \u00bb", 11),
        ("\u00a9 2020 Verlag", 0),
    ]
    kept = without_boilerplate(lines, "de")
    assert [line for line in kept if line] == [lines[2][0], lines[3][0], lines[-3][0]]


def test_tables_titles_single_links_and_prose_full_of_links_stay():
    prose = (
        "The cell is the basis of all that lives, and it was seen first by a man of Delft in 1676"
    )
    lines = [("My page", 7), (PROSE, 0), *[(f"a\t\t{n}", 6) for n in range(5)]]
    lines += [("A reference", 11), (PROSE, 0), *[(prose, len(prose))] * 4, (PROSE, 0)]
    kept = without_boilerplate(lines, "en", "My page - a site")
    assert kept == [line for line, _ in lines]


@given(
    st.lists(
        st.tuples(st.text(max_size=30), st.integers(0, 30)), max_size=20
    ),
    st.sampled_from(["en", "de", "ja", "xx", ""]),
)  # fmt: skip
def test_boilerplate_removal_keeps_lines_in_order_and_invents_none(lines, language):
    kept = [line for line in without_boilerplate(lines, language) if line]
    rest = iter([line for line, _ in lines])
    assert all(line in rest for line in kept)


def test_boxes_inside_the_text_come_back_and_what_is_around_it_does_not():
    box = ["A NOTE", f"{PROSE} {PROSE} {PROSE}", PROSE]
    menu = ["One", "Two", "Three"]
    main = ["Title", "First of the paragraphs.", "", "Last of the paragraphs."]
    whole = [*box, "Title", *menu, "First of the paragraphs.", *box, "", main[-1], *menu, *box]
    found = [line for line in with_hidden_prose(main, whole, "en") if line]
    assert found == ["Title", main[1], *box, main[-1]]


def test_a_paragraph_that_lost_its_middle_is_taken_as_it_stands_on_the_page():
    whole = f"{PROSE} Authors, peasants, and others, with x + y = z, were there. {PROSE}"
    mangled = whole.replace(" x + y = z", "").replace(", ", "")
    kept = with_hidden_prose(["A", mangled, "B"], ["A", "menu", whole, "B"], "en")
    assert kept == ["A", whole, "B"]


@given(st.lists(st.sampled_from(["a", "b", "", PROSE, PROSE * 3, "c d"]), max_size=12), st.data())
def test_main_content_is_never_lost_by_bringing_prose_back(whole, data):
    main = [line for line in whole if data.draw(st.booleans())]
    found = with_hidden_prose(main, whole, "en")
    rest = iter(found)
    assert all(line in rest for line in main)
    assert set(found) <= {*whole, ""}


def test_an_edit_of_the_word_lists_is_an_edit_of_the_code():
    data = Path(boilerplate.__file__).with_suffix(".json").read_bytes()
    assert hashlib.blake2b(data, digest_size=8).hexdigest() == boilerplate.WORD_LISTS


def test_there_are_phrases_for_the_usual_languages():
    assert is_boilerplate("\u6b21\u3078", "ja")
    assert is_boilerplate("Lire la suite", "fr")
    assert not is_boilerplate("Lire la suite", "de")
    assert "\u043d\u0435" in stop_words("ru")


@pytest.mark.parametrize(
    "html",
    [
        b"<div>" * 100_000 + b"text" + b"</div>" * 100_000,
        b"<b><div>" * 50_000,
        b"<ul><li>x" * 100_000,
        b"<div " + b" ".join(b"a%d=1" % n for n in range(100_000)) + b">text</div>",
        b"<b a='<1'>" * 20_000 + b"<p>x" * 20_000,
        b"<p>" * 600_000,
        b"\0" * 1000 + b"<p>x",
    ],
    ids=["deep", "formatting", "lists", "attributes", "reopened", "tags", "nulls"],
)
def test_a_page_made_to_be_expensive_is_refused_at_once(html):
    began = time.monotonic()
    found = extract(html)
    assert isinstance(found, Problem)
    assert found.reason in ("invalid_html", "not_text")
    assert time.monotonic() - began < 3


def test_pages_that_are_odd_but_harmless_are_read():
    text = f"<p>{PROSE}</p>".encode()
    for html in (
        b'<div title="' + b"x" * 5_000_000 + b'">' + text,
        b"<script>" + b"if(a<b){}" * 100_000 + b"</script>" + text,
        b"<!--" + b"-<b>" * 50_000 + b"-->" + text,
        text + b"\0\0",
        text + b"<script>" + b"a<b " * 200,
        b"\xff\xfe" + f"<p>{PROSE}</p>".encode("utf-16-le"),
    ):
        found = extract(html)
        assert isinstance(found, Page)
        assert PROSE in found.text.replace("\0", "")


def test_a_page_above_the_size_limit_is_refused_unread():
    found = extract(b"x" * (17 << 20))
    assert isinstance(found, Problem)
    assert found.reason == "too_large"


@given(
    st.one_of(
        st.binary(max_size=200), st.text(alphabet="<>/apdivb =\"'&;#!-\0\ue000x", max_size=80)
    )
)
def test_whatever_the_bytes_a_page_is_read_or_refused(data):
    found = extract(data if isinstance(data, bytes) else data.encode(), links=True)
    assert isinstance(found, (Page, Problem))
    if isinstance(found, Page):
        assert found.text.strip()


def test_a_page_of_links_only_is_read_whole_and_says_so():
    html = b"<ul>" + b"<li><a href=x>Entry of a list</a></li>" * 3 + b"</ul>"
    found = extract(html)
    assert isinstance(found, Page)
    assert not found.main_content
    assert "Entry" in found.text


def test_html_files_are_one_document_each():
    html = b"<title>T</title><link rel=canonical href=https://a.org/x><p>%b</p>" % PROSE.encode()
    rows, rejects = read(html, "x/A.HTM")
    assert rejects == []
    assert (rows[0]["text"], rows[0]["url"], rows[0]["key"]) == (PROSE, "https://a.org/x", None)
    assert reasons(read(b"", "a.html")[1]) == ["no_text"]
    assert reasons(read(b"x" * (17 << 20), "a.html")[1]) == ["too_large"]
    assert reader_named("html").options["links"].default is False
