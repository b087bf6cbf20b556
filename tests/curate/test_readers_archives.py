"""Archives that people own: wikis, forums, notebooks, source trees and PDF, sound and hostile."""

import bz2
import functools
import io
import json
import re
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError, UnreadableFileError
from curate.licence_phrases import LICENCES
from curate.licences import spdx_of
from curate.readers import wikitext
from curate.readers.base import RECORDS, InputFile, Reject, Slice
from curate.readers.discover import expand, open_stream
from curate.readers.html_plain import plain_text as html_text
from curate.readers.licences import nearest_license
from curate.readers.registry import reader_for

Rows = list[dict[str, Any]]


def read_bytes(
    data: bytes, path: str, format: str | None = None, **options: Any
) -> tuple[Rows, list[Reject]]:
    file = InputFile("test:", path, len(data), "1")
    return read_file(file, lambda: io.BytesIO(data), format, **options)


def read_file(
    file: InputFile, opener: Any = None, format: str | None = None, **options: Any
) -> tuple[Rows, list[Reject]]:
    reader, compression = reader_for(file.path, format)
    opener = opener or functools.partial(open_stream, file, compression)
    rows: Rows = []
    rejects: list[Reject] = []
    for batch in reader.read(Slice(file), opener, options):
        assert batch.records.schema.equals(RECORDS)
        batch.records.validate(full=True)
        rows += batch.records.to_pylist()
        rejects += batch.rejects
    return rows, rejects


def meta_of(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(row["meta"] or "{}")


def shared(folder: Path, name: str) -> InputFile:
    path = folder / name
    return InputFile(str(path), name, path.stat().st_size, "1")


# --- wikitext ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''A''' ''b''", "A b"),
        ("a [[b]] [[c|d ''e'']] [[f (g)|]]h", "a b d e h"),
        ("[[File:x.png|thumb|a [[b]] {{c}}]]d[[Category:E]][[:Category:F]]", "dCategory:F"),
        ("[[de:Titel]]a [[s:Titel|b]]", "a b"),
        ("[http://a.b c d] [http://a.b] [//x y] [z]", "c d  y [z]".replace("  ", " ")),
        ("a{{b|{{c}}|d}}e{{{f|g}}}h", "aeh"),
        ("a<ref>b {{c}}</ref><ref name=x/> d<!-- e --> f", "a d f"),
        ("a<nowiki>[[b]]</nowiki> <code>{{c}}</code>", "a[[b]] {{c}}"),
        ("<math>{{x}}^2</math>", "{{x}}^2"),
        ("== A ==\nb\n=== ''C'' ===\n==D==", "A\nb\nC\nD"),
        ("* a\n** b\n# c\n: d\n; e", "- a\n- b\n- c\nd\ne"),
        ("a\n{|class=b\n|-\n| c {|\n| d\n|}\n|}\ne", "a\n\ne"),
        ("a &amp; b&nbsp;c &lt;d", "a & b c <d"),
        ("a<br/>b<span style='c'>d</span>", "a\nbd"),
        ("__TOC__a ({{b}}) c ( ) d", "a c d"),
        ("a {{b", "a b"),
        ("f() and g ()", "f() and g"),
        ("a\n<pre>\nif x:\n    y   (z)\n\n# w\n</pre>b", "a\n\nif x:\n    y   (z)\n\n# w\n\nb"),
        ("a\0b\r\nc", "ab\nc"),
        ("a }} b ]] c |} d", "a  b  c |} d".replace("  ", " ")),
        ("[[a [[b]]", "a b"),
        ("a <ref>b", "a b"),
        ("a <!-- b", "a"),
        ("a < b > c", "a < b > c"),
        ("", ""),
    ],
)
def test_markup_becomes_the_prose_that_a_reader_sees(markup, text):
    assert wikitext.plain_text(markup) == text


def test_the_namespaces_of_another_language_are_known_from_the_dump():
    markup = "a[[Datei:b.png|c]][[Kategorie:D]]"
    assert wikitext.plain_text(markup, frozenset({"datei", "kategorie"})) == "a"
    assert "Datei" not in wikitext.plain_text("[[Datei:b.png|c]]")


HOSTILE_MARKUP = [
    "{{" * 20_000,
    "{{" * 10_000 + "}}" * 10_000,
    "[[" * 10_000 + "]]" * 10_000,
    "[[a|" * 10_000 + "]]" * 10_000,
    "{{[[" * 5_000 + "}}]]" * 5_000,
    "<ref>" * 10_000,
    "<math></math>" * 4_000,
    "\n{|" * 10_000,
    "[http://a " * 10_000,
    "[http://a " * 6_000 + "]" * 6_000,
    "<!--" * 10_000,
    "<a " * 10_000,
    "=" * 20_000,
    "( " * 10_000,
    "'" * 20_000,
    "&" * 20_000,
]


@pytest.mark.parametrize("markup", HOSTILE_MARKUP, ids=lambda markup: repr(markup[:9]))
def test_hostile_markup_takes_linear_time(markup):
    begin = time.process_time()
    wikitext.plain_text(markup)
    assert time.process_time() - begin < 2  # some 0.05 s; quadratic would be a minute


PIECES = """
{{ }} {{{ }}} [[ ]] | {| |} == * '' <ref> </ref> <ref/> <nowiki> </nowiki> <!-- --> [http: a b
File: &amp; <br> __TOC__ ] ' = : ; # ( )
"""
pieces = st.sampled_from([*PIECES.split(), "\n", " "])


@given(st.lists(pieces | st.text(max_size=3), max_size=60))
def test_any_markup_becomes_text_and_nothing_is_invented(parts):
    text = wikitext.plain_text("".join(parts))
    assert text == text.strip("\n")
    assert "\n\n\n" not in text
    assert len(text) <= len("".join(parts)) + 2 * len(parts)


def brackets_twin(text: str) -> str:
    """Templates out, slowly: the innermost pair of double braces goes until there is none."""
    while True:
        shorter = re.sub(r"\{\{(?:(?!\{\{|\}\}).)*\}\}", "", text)
        if shorter == text:
            return text.replace("{{", "").replace("}}", "")
        text = shorter


@given(st.lists(st.sampled_from(["{{", "}}", "a", "b "]), max_size=30))
def test_templates_are_matched_as_the_slow_twin_matches_them(parts):
    markup = " ".join(parts)
    expected = " ".join(brackets_twin(markup).split())
    assert " ".join(wikitext.plain_text(markup).split()) == expected


# --- MediaWiki dumps ---------------------------------------------------------------------------

SITE = (
    "<siteinfo><sitename>W</sitename><base>https://w.org/wiki/Main</base><namespaces>"
    '<namespace key="6">Datei</namespace></namespaces></siteinfo>'
)


def page(title: str, id_: int, text: str, extra: str = "", body: str | None = None) -> str:
    body = body if body is not None else f'<text xml:space="preserve">{text}</text>'
    return (
        f"<page><title>{title}</title><ns>0</ns><id>{id_}</id>{extra}<revision><id>9</id>"
        f"<timestamp>2020-01-02T03:04:05Z</timestamp><contributor><id>7</id></contributor>"
        f"{body}</revision></page>"
    )


def dump(*pages: str, site: str = SITE) -> bytes:
    return f'<mediawiki xmlns="urn:x">{site}{"".join(pages)}</mediawiki>'.encode()


def test_a_page_is_a_document_with_its_address_time_and_title():
    data = dump(page("A b?", 3, "''c'' [[Datei:x|y]]"))
    rows, rejects = read_bytes(data, "w.xml")
    assert rejects == []
    assert rows == [
        {
            "text": "c",
            "key": "3",
            "url": "https://w.org/wiki/A_b%3F",
            "license": None,
            "timestamp": "2020-01-02T03:04:05Z",
            "position": data.index(b"<page>"),
            "meta": '{"namespace":0,"revision":"9","title":"A b?"}',
        }
    ]


def test_redirects_other_models_and_deleted_pages_are_told():
    rows, rejects = read_bytes(
        dump(
            page("A", 1, "#REDIRECT [[B]]", '<redirect title="B"/>'),
            page("C", 2, "#WEITERLEITUNG [[D]]"),
            page("L", 7, "#See [[D]]"),
            page("M", 3, "", body="<model>Scribunto</model><text>return {{1}}</text>"),
            page("E", 4, "", body='<text deleted="deleted"/>'),
            page("F", 5, "{{only a template}}"),
            page("G", 6, "", body=""),
        ),
        "w.xml",
    )
    assert [row["text"] for row in rows] == [
        "Redirect to B",
        "Redirect to D",
        "- See D",
        "return {{1}}",
    ]
    assert [meta_of(row).get("redirect") for row in rows] == ["B", "D", None, None]
    assert meta_of(rows[3])["model"] == "Scribunto"
    assert [reject.reason for reject in rejects] == ["no_text"] * 3


def test_the_last_revision_of_a_page_is_its_text():
    two = (
        "<page><title>A</title><id>1</id><revision><id>1</id><text>old</text></revision>"
        "<revision><id>2</id><text>new</text></revision></page>"
    )
    rows, _ = read_bytes(dump(two), "w.xml")
    assert (rows[0]["text"], meta_of(rows[0])["revision"]) == ("new", "2")


def test_the_markup_is_kept_and_columns_are_mapped_when_the_recipe_says_so():
    data = dump(page("A", 1, "''b''"))
    rows, _ = read_bytes(
        data, "w.xml", options={"markup": True}, columns={"text": ["title", "text"]}
    )
    assert rows[0]["text"] == "A\n''b''"
    with pytest.raises(InputError, match="markup"):
        read_bytes(data, "w.xml", options={"markpu": True})


def test_a_page_that_is_too_long_spares_its_neighbours():
    data = dump(page("A", 1, "a"), page("B", 2, "b" * 5000), page("C", 3, "c"))
    rows, rejects = read_bytes(data, "w.xml", max_document_bytes=1000)
    assert [row["text"] for row in rows] == ["a", "c"]
    assert [reject.reason for reject in rejects] == ["too_large"]


def test_quotations_in_templates_are_prose_and_their_other_arguments_are_not():
    text = "a {{quote|Permit ''us'' [[b|x]] {{small|no}} then|author=Me}} c {{unquote|y}}"
    assert wikitext.plain_text(text) == "a\nPermit us x then c"
    assert wikitext.plain_text("{{Cquote|1=In|Bob}}") == "In\nBob"


def test_templates_that_stand_for_words_leave_their_words():
    text = "above {{convert|8000|m|ft}}, {{lang|fr|bon jour}} (; {{IPA|x}} May 1) {{nowrap|a b}}"
    assert wikitext.plain_text(text) == "above 8000 m, bon jour (May 1) a b"


def test_the_wikipedia_sample_gives_all_its_pages(shared_data):
    rows, rejects = read_file(shared(shared_data, "text/enwiki_sample.xml.bz2"))
    assert (len(rows), rejects) == (206, [])
    assert len({row["key"] for row in rows}) == 206
    assert all(row["url"].startswith("https://en.wikipedia.org/wiki/") for row in rows)
    assert all(row["timestamp"] for row in rows)
    left = Counter(
        mark for row in rows for mark in re.findall(r"\[\[|\]\]|\{\||''|<ref|&amp;", row["text"])
    )
    assert left == {}


# --- XML that is not what it says --------------------------------------------------------------

BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<mediawiki><page><title>&b;</title></page></mediawiki>"
)


@pytest.mark.parametrize(
    ("data", "reason", "told"),
    [
        (dump(page("A", 1, "a"))[:-30], "truncated", "cut short"),
        (b"<mediawiki><page></mediawiki>", "invalid_xml", "mismatched"),
        (b"<mediawiki>\xff</mediawiki>", "invalid_xml", "sound"),
        (b"no xml", "invalid_xml", "sound"),
        (b'<?xml version="1.0" encoding="x-none"?><posts/>', "invalid_xml", "encoding"),
        (b"<posts>&#xD800;</posts>", "invalid_xml", "reference"),
        (b"  ", "truncated", "no element"),
        (b"<mediawiki>" + b"<page>" * 5000, "invalid_xml", "nested"),
    ],
)
def test_xml_that_cannot_be_read_says_why_in_one_line(data, reason, told):
    with pytest.raises(UnreadableFileError, match=re.escape(told)) as caught:
        read_bytes(data, "w.xml")
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (BOMB.encode(), "document type"),
        (b'<!DOCTYPE posts SYSTEM "file:///x"><posts/>', "document type"),
        (b"<rss><channel/></rss>", "<rss>"),
        (b"<project/>", "<project>"),
    ],
)
def test_xml_that_is_no_dump_is_one_reject_and_stops_nobody(data, told):
    rows, (reject,) = read_bytes(data, "w.xml")
    assert rows == []
    assert reject.reason == "invalid_xml"
    assert told in reject.detail


def test_a_tag_that_never_ends_is_refused_before_it_fills_the_memory():
    class Endless(io.RawIOBase):
        count = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            self.count += size
            assert self.count < 64 << 20
            return (b"<posts><row Body='" if self.count == size else b"").ljust(size, b"a")

    file = InputFile("test:", "p.xml", 1, "1")
    with pytest.raises(UnreadableFileError, match="longer than max_document_bytes"):
        read_file(file, Endless, max_document_bytes=1 << 20)


def test_what_stands_before_the_damage_is_kept():
    data = dump(*(page(str(n), n, "text") for n in range(3000)))
    broken = data[: len(data) // 2] + b"<<" + data[len(data) // 2 :]
    rows = []

    def collect() -> None:
        file = InputFile("test:", "w.xml", 1, "1")
        for batch in reader_for("w.xml")[0].read(Slice(file), lambda: io.BytesIO(broken), {}):
            rows.extend(batch.records.to_pylist())

    with pytest.raises(UnreadableFileError):
        collect()
    assert len(rows) in range(1450, 1551)


# --- Stack Exchange ----------------------------------------------------------------------------


def test_questions_and_answers_are_documents_with_their_address():
    data = (
        b'<posts><row Id="1" PostTypeId="1" Score="-2" Body="&lt;p&gt;a &amp;amp; b&lt;/p&gt;" '
        b'Tags="&lt;x&gt;&lt;y-z&gt;" Title="T" CreationDate="2015-01-27T20:09:32.720" '
        b'ContentLicense="CC BY-SA 3.0" OwnerUserId="4"/>'
        b'<row Id="2" PostTypeId="2" ParentId="1" Body="c"/>'
        b'<row Id="3" PostTypeId="5" Body=""/><row Foo="1"/></posts>'
    )
    rows, rejects = read_bytes(data, "coffee.stackexchange.com/Posts.xml")
    assert [row["text"] for row in rows] == ["a & b", "c"]
    assert rows[0]["url"] == "https://coffee.stackexchange.com/q/1"
    assert rows[1]["url"] == "https://coffee.stackexchange.com/a/2"
    assert rows[0]["license"] == "CC-BY-SA-3.0"
    assert rows[0]["timestamp"] == "2015-01-27T20:09:32Z"
    assert meta_of(rows[0]) == {
        "kind": "question",
        "owner": "4",
        "score": -2,
        "tags": ["x", "y-z"],
        "title": "T",
    }
    assert meta_of(rows[1]) == {"kind": "answer", "parent": "1"}
    assert [reject.reason for reject in rejects] == ["no_text", "invalid_xml"]
    named, _ = read_bytes(data, "p.xml", "stackexchange", options={"site": "x.org"})
    assert named[0]["url"] == "https://x.org/q/1"


def test_the_coffee_forum_gives_all_its_posts(shared_data):
    rows, rejects = read_file(shared(shared_data, "text/forum_stackexchange_coffee.xml.gz"))
    assert len(rows) + len(rejects) == 592
    # The ten without a text are wiki pages of tags whose Body is "".
    assert {reject.reason for reject in rejects} == {"no_text"}
    kinds = Counter(meta_of(row)["kind"] for row in rows)
    assert kinds == {"question": 225, "answer": 327, "tag wiki excerpt": 17, "tag wiki": 13}
    assert not any("<p>" in row["text"] for row in rows)


@pytest.mark.parametrize(
    "html", ["<b>" * 50_000, "<div>" * 5_000, "<table><tr><td>" * 3_000, "<p a " + "b " * 90_000]
)
def test_hostile_html_is_text_or_a_problem_soon(html):
    begin = time.process_time()
    html_text(html)
    assert time.process_time() - begin < 3


# --- notebooks ---------------------------------------------------------------------------------


def notebook(*cells: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, **more}).encode()


CELLS = (
    {"cell_type": "markdown", "source": ["# A\n", "text"]},
    {"cell_type": "code", "source": "x = 1\n", "outputs": [{"text": ["out\n"]}]},
    {"cell_type": "raw", "source": ""},
)


def test_a_notebook_is_its_text_and_code_in_order_without_outputs():
    data = notebook(*CELLS, metadata={"language_info": {"name": "Python"}, "x": float("nan")})
    rows, _ = read_bytes(data, "n.ipynb")
    assert rows[0]["text"] == "# A\ntext\n\n```python\nx = 1\n```"
    assert meta_of(rows[0]) == {"cells": 3, "code_cells": 1, "language": "python", "outputs": 1}
    rows, _ = read_bytes(data, "n.ipynb", options={"outputs": True, "fences": False})
    assert rows[0]["text"] == "# A\ntext\n\nx = 1\n\nout\n"


def test_a_notebook_of_format_3_is_read():
    cells = [
        {"cell_type": "heading", "level": 2, "source": "B"},
        {"cell_type": "code", "input": ["y"], "language": "ruby"},
    ]
    data = json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}).encode()
    rows, _ = read_bytes(data, "n.ipynb")
    assert rows[0]["text"] == "## B\n\n```ruby\ny\n```"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "invalid_notebook"),
        (b"[]", "invalid_notebook"),
        (b"{}", "invalid_notebook"),
        (b'{"cells": 3}', "invalid_notebook"),
        (b'{"cells": [3]}', "invalid_notebook"),
        (b'{"cells": [{"cell_type": "code", "source": {"a": 1}}]}', "invalid_notebook"),
        (b'{"worksheets": [3]}', "invalid_notebook"),
        (b"[" * 100_000, "invalid_notebook"),
        (b'{"cells": [{"cell_type": "raw", "source": "\\ud800"}]}', "invalid_utf8"),
        (b'{"cells": [{"cell_type": "heading", "level": 1.5, "source": "\xff"}]}', "invalid_utf8"),
        (b'{"cells": []}', "no_text"),
        (b"", "no_text"),
        (b" " * 3000, "too_large"),
    ],
)
def test_what_is_no_notebook_is_a_reject(data, reason):
    limit = len(data) - 1 if reason == "too_large" else 1 << 20
    rows, rejects = read_bytes(data, "n.ipynb", max_document_bytes=limit)
    assert (rows, [reject.reason for reject in rejects]) == ([], [reason])


# --- licences ----------------------------------------------------------------------------------

# ScanCode tells some texts apart that are one licence by SPDX's matching guidelines.
SAME_BY_SPDX = {
    "apache-2.0": "Apache-2.0",
    "bsd-new": "BSD-3-Clause",
    "bsd-original-uc": "BSD-4-Clause-UC",
    "bsd-unmodified": "BSD-2-Clause",
    "bsd-x11": "BSD-3-Clause",
    "cal-1.0": "CAL-1.0",
    "epl-2.0": "EPL-2.0",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-3.0": "LGPL-3.0-only",
    "lgpl-3.0-plus": "LGPL-3.0-or-later",
    "mit": "MIT",
    "mpl-2.0": "MPL-2.0",
    "psf-2.0": "PSF-2.0",
    "shl-2.1": "Apache-2.0 WITH SHL-2.1",
    "x11-acer": "ISC",
}


def test_licences_are_recognised_as_people_labelled_them(shared_data):
    with zstandard.open(
        shared_data / "neardup/licenses.jsonl.zst", "rt", encoding="utf-8"
    ) as lines:
        texts = [orjson.loads(line) for line in lines]
    found = [(spdx_of(row["text"])[0], SAME_BY_SPDX.get(row["label"])) for row in texts]
    said = [(spdx, label) for spdx, label in found if spdx]
    right = sum(spdx == label for spdx, label in said)
    assert len(said) >= 90
    assert right / len(said) >= 0.99
    usual = [pair for pair in found if pair[1] in ("MIT", "Apache-2.0", "LGPL-2.1-only", "MPL-2.0")]
    recall = sum(spdx == label for spdx, label in usual) / len(usual)
    print(f"precision {right}/{len(said)}, recall on the most usual {recall:.2f}")
    assert recall >= 0.9


@pytest.mark.parametrize(
    ("line", "spdx"),
    [
        ("// SPDX-License-Identifier: MIT", "MIT"),
        ("/* SPDX-License-Identifier: GPL-2.0-or-later */", "GPL-2.0-or-later"),
        ("SPDX-License-Identifier: (MIT or Apache-2.0)", "MIT OR Apache-2.0"),
        (
            "SPDX-License-Identifier: GPL-2.0+ WITH x-1.0 AND (A OR B)",
            "GPL-2.0+ WITH x-1.0 AND (A OR B)",
        ),
        ("SPDX-License-Identifier:", None),
        ("SPDX-License-Identifier: AND", None),
        ("SPDX-License-Identifier: (MIT", None),
        ("\n" * 60 + "SPDX-License-Identifier: MIT", None),
    ],
)
def test_the_header_line_wins_if_it_is_an_expression(line, spdx):
    assert spdx_of(line) == ((spdx, "header") if spdx else (None, ""))


def test_a_text_with_two_licences_has_none():
    mit = next(licence for licence in LICENCES if licence.spdx == "MIT")
    isc = next(
        licence for licence in LICENCES if licence.spdx == "MPL-2.0" and licence.how == "notice"
    )
    assert spdx_of(" ".join(mit.phrases)) == ("MIT", "text")
    assert spdx_of(" ".join(mit.phrases) + ". " + " ".join(isc.phrases)) == (None, "several")
    changed = [*mit.phrases[:3], "and you must smile" + " word" * 300, *mit.phrases[3:]]
    assert spdx_of(" ".join(changed)) == (None, "")


@pytest.mark.parametrize("licence", LICENCES, ids=lambda licence: f"{licence.spdx}-{licence.how}")
def test_phrases_are_words_in_lower_case_and_repeating_them_costs_little(licence):
    for phrase in (*licence.phrases, *licence.never):
        assert re.fullmatch(r"[a-z0-9]+( [a-z0-9]+)*", phrase)
    begin = time.process_time()
    spdx_of((licence.phrases[0] + " ") * 2000)
    assert time.process_time() - begin < 2


def test_a_source_file_is_under_the_nearest_licence_file(tmp_path):
    mit = " ".join(next(licence for licence in LICENCES if licence.spdx == "MIT").phrases)
    tree = {
        "tree/LICENSE": mit,
        "tree/a.py": "a",
        "tree/sub/b.py": "b",
        "tree/own/COPYING.txt": "All mine.",
        "tree/own/deep/c.py": "c",
        "tree/d.py": "# SPDX-License-Identifier: ISC\nd",
        "other/license.py": mit,
        "other/e.py": "e",
        "LICENSE": mit,
    }
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    files = {file.path: file for file in expand(["tree", "other/e.py"], str(tmp_path))}
    found = {path: read_file(file)[0][0] for path, file in files.items()}
    assert {path: row["license"] for path, row in found.items()} == {
        "tree/a.py": "MIT",
        "tree/d.py": "ISC",
        "tree/own/COPYING.txt": None,
        "tree/own/deep/c.py": None,
        "tree/sub/b.py": "MIT",
        "other/e.py": None,
    }
    assert meta_of(found["tree/sub/b.py"]) == {"language": "python", "license_from": "tree/LICENSE"}
    assert meta_of(found["tree/d.py"])["license_from"] == "header"
    assert nearest_license(files["tree/own/deep/c.py"]) == (None, "tree/own/COPYING.txt")
    rows, _ = read_file(files["tree/a.py"], options={"licenses": False})
    assert rows[0]["license"] is None
    (tmp_path / "tree/LICENSE").write_text("Something else.")
    assert nearest_license(files["tree/a.py"]) == (None, "tree/LICENSE")


def test_two_licence_files_that_differ_give_none_and_a_pipe_is_not_opened(tmp_path):
    import os

    texts = {
        licence.spdx: " ".join(licence.phrases) for licence in LICENCES if licence.how == "text"
    }
    (tmp_path / "t").mkdir()
    (tmp_path / "t/LICENSE-MIT").write_text(texts["MIT"])
    (tmp_path / "t/LICENSE-ZLIB").write_text(texts["Zlib"])
    (tmp_path / "t/a.py").write_text("a")
    [file] = expand(["t/a.py"], str(tmp_path))
    assert nearest_license(file)[0] is None
    (tmp_path / "t/LICENSE-ZLIB").unlink()
    assert nearest_license(file)[0] == "MIT"
    (tmp_path / "t/LICENSE-MIT").unlink()
    os.mkfifo(tmp_path / "t/LICENSE")
    assert nearest_license(file)[0] is None
    assert nearest_license(InputFile("s3://b/a.py", "b/a.py", 1, "1")) == (None, None)


# --- PDF ---------------------------------------------------------------------------------------

HELLO = b"BT /F1 12 Tf 10 100 Td (Hello world) Tj ET"


def pdf(*pages: bytes, trailer: bytes = b"", pack: bool = False) -> bytes:
    """A PDF by hand: catalog, pages, font, information, then each page and its content."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    objects.append(b"<< /Title (A title) /Author (Ann) /CreationDate (D:20200102030405Z) >>")
    kids = []
    for content in pages:
        data = zlib.compress(content) if pack else content
        extra = b" /Filter /FlateDecode" if pack else b""
        objects.append(b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(data), extra, data))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(kids))
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return out + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R /Info 4 0 R %s>>\n"
        b"startxref\n%d\n%%%%EOF\n" % (size, table, size, trailer, len(out))
    )


LOCKED = (
    b"/Encrypt << /Filter /Standard /V 1 /R 2 /O (12345678901234567890123456789012) "
    b"/U (12345678901234567890123456789012) /P -4 >> /ID [(a) (b)] "
)


def test_the_pages_of_a_pdf_are_one_document_with_its_title_and_date():
    pytest.importorskip("pypdf")
    rows, _ = read_bytes(pdf(HELLO, b"", HELLO), "a.pdf")
    assert rows[0]["text"] == "Hello world\n\nHello world"
    assert rows[0]["timestamp"] == "2020-01-02T03:04:05Z"
    assert meta_of(rows[0]) == {
        "author": "Ann",
        "pages": 3,
        "pages_without_text": 1,
        "title": "A title",
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdf(HELLO, trailer=LOCKED), "encrypted"),
        (pdf(b""), "no_text"),
        (pdf(HELLO)[:-30], "truncated"),
        (b"%PDF-1.4\n%%EOF", "invalid_pdf"),
        (b"hello", "invalid_pdf"),
        (b"", "no_text"),
        (pdf(b"[" * 100_000), "invalid_pdf"),
        (pdf(b" " * (9 << 20), pack=True), "invalid_pdf"),
        (pdf(HELLO) + b" " * 5_000_000, "too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pdf_that_cannot_be_read_is_a_reject(data, reason):
    pytest.importorskip("pypdf")
    rows, rejects = read_bytes(data, "a.pdf", max_document_bytes=4_000_000)
    assert (rows, [reject.reason for reject in rejects]) == ([], [reason])


def test_without_pypdf_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pypdf", None)
    with pytest.raises(InputError, match=r"pip install 'preceptor\[pdf\]'"):
        read_bytes(pdf(HELLO), "a.pdf")


@pytest.mark.parametrize("path", ["w.xml", "n.ipynb", "a.pdf", "a.eml", "a.mbox", "a.log"])
def test_a_column_that_the_format_does_not_have_is_refused(path):
    with pytest.raises(InputError, match="no column 'body'.*text"):
        read_bytes(b"x", path, columns={"text": "body"})


# --- damage ------------------------------------------------------------------------------------

SOUND = {
    "w.xml": dump(page("A", 1, "a ''b''"), page("C", 2, "{{d}} e")),
    "p.xml": b'<posts><row Id="1" PostTypeId="1" Body="&lt;p&gt;a"/><row Id="2" Body="b"/></posts>',
    "n.ipynb": notebook(*CELLS),
    "a.py": b"# SPDX-License-Identifier: MIT\nx = 1\n",
    "a.pdf": pdf(HELLO, HELLO),
    "w.xml.bz2": bz2.compress(dump(page("A", 1, "a"))),
}


@given(
    st.sampled_from(sorted(SOUND)),
    st.integers(0, 100_000),
    st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 7)), max_size=3),
    st.booleans(),
)
def test_damage_gives_rejects_or_an_unreadable_file_and_nothing_else(path, cut, flips, do_cut):
    pytest.importorskip("pypdf")
    data = bytearray(SOUND[path])
    for at, bit in flips:
        data[at % len(data)] ^= 1 << bit
    damaged = bytes(data[: cut % len(data)] if do_cut else data)
    file = InputFile("test:", path, len(damaged), "1")
    opener = functools.partial(_opened, file, damaged)
    try:
        rows, rejects = read_file(file, opener)
    except UnreadableFileError:
        return
    assert rows or rejects or not damaged
    assert all(isinstance(row["text"], str) and row["text"] for row in rows)


def _opened(file: InputFile, data: bytes) -> Any:
    import curate.readers.streams as streams

    if file.path.endswith(".bz2"):
        source = streams._Inflated(io.BytesIO(data), streams.COMPRESSIONS[".bz2"], file.path)
        return io.BufferedReader(source)
    return io.BytesIO(data)
