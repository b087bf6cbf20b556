"""The running environment is a source of real text that needs no download."""

import functools
import sysconfig
from pathlib import Path

import pytest

from curate.corpus.errors import InputError
from curate.readers.base import Batch, InputFile, Slice
from curate.readers.discover import expand, group, open_stream
from curate.readers.registry import reader_for, reader_named


def read(file: InputFile) -> Batch:
    opener = functools.partial(open_stream, file, None, None)
    (batch,) = reader_named("python-env").read(Slice(file), opener, {})
    return batch


def test_names_are_found_in_a_stable_order_without_machine_paths():
    files = expand(["licenses", "topics", "readmes", "topics"], format="python-env")
    assert files == expand(["readmes", "topics", "licenses"], format="python-env")
    names = [file.path for file in files]
    assert names == sorted(set(names))
    root = sysconfig.get_paths()["purelib"]
    assert all(root not in (file.key or "") and root not in file.path for file in files)
    assert any(name.startswith("readmes/orjson==") for name in names)
    with pytest.raises(InputError, match="Did you mean 'stdlib'"):
        expand(["stdlb"], format="python-env")


def test_the_standard_library_is_read_with_its_keys_and_licence():
    files = {file.key: file for file in expand(["stdlib"], format="python-env")}
    assert not any("site-packages" in str(key) for key in files)
    batch = read(files["stdlib/json/decoder.py"])
    row = batch.records.to_pylist()[0]
    assert "class JSONDecoder" in row["text"]
    assert (row["key"], row["license"]) == ("stdlib/json/decoder.py", "PSF-2.0")
    assert reader_for("stdlib/x.py", "python-env") == (reader_named("python-env"), None)
    bins = group(list(files.values()), reader_named("python-env"), 1 << 20)
    assert sum(len(parts) for parts in bins) == len(files)


def test_readmes_licences_and_topics_are_documents():
    files = expand(["readmes", "licenses", "topics"], format="python-env")
    by_key = {file.key: file for file in files}
    ours = sorted(str(key) for key in by_key if str(key).startswith("orjson=="))
    (readme_key,) = [key for key in ours if key.endswith("/README")]
    row = read(by_key[readme_key]).records.to_pylist()[0]
    assert "orjson" in row["text"]
    assert not row["text"].startswith("Metadata-Version")
    assert row["license"]
    licence_key = next(key for key in ours if "LICENSE" in key)
    assert read(by_key[licence_key]).records.num_rows == 1
    topics = read(next(file for file in files if file.path.startswith("topics/"))).records
    keys = topics["key"].to_pylist()
    assert keys == sorted(keys)
    assert "topics/assert" in keys


def test_links_out_of_the_environment_and_missing_files_are_rejects(tmp_path):
    (tmp_path / "secret.py").write_text("secret")
    outside = InputFile(str(tmp_path / "secret.py"), "packages/x==1/x.py", 6, "1", "x==1/x.py")
    assert [reject.reason for reject in read(outside).rejects] == ["outside_root"]
    gone = InputFile(
        str(Path(sysconfig.get_paths()["purelib"]) / "no-such-file.py"), "packages/x==1/y.py", 0, ""
    )
    assert [reject.reason for reject in read(gone).rejects] == ["unreadable"]
