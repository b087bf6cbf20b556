"""The store: parts, manifests and corpus versions, each created once and never changed.

    PASS/parts/KEY.json          one finished job: key = what it read + settings + code
    PASS/data/SHA256.parquet     its rows, named by content
    PASS/manifests/FINGERPRINT   a whole pass
    corpora/NAME/log/00000001    which version is current: an append-only log
    corpora/NAME/withdrawn/...   versions that a purge took out of use: another log
    forgotten/log/00000001       what takedowns have forgotten, of whatever corpus

There is no lock, no rename and no listing: the current version is the last entry of a gapless log
whose entries are created if absent, so appending *is* compare-and-swap. Two runs that append at
once: one wins, the other reads again and finds its work done.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curate.corpus.errors import InputError, IntegrityError, did_you_mean
from curate.corpus.identity import canonical_json, fingerprint
from curate.corpus.manifest import Manifest
from curate.corpus.schema import FORMAT_VERSION
from curate.corpus.storage import Storage

__all__ = ["Log", "Store", "Version", "version_fingerprint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a corpus.

    Attributes:
        name: the corpus.
        number: 1, 2, ...
        fingerprint: identity of what it holds.
        parent: the number that was current before it, 0 for none.
        manifests: pass name -> manifest fingerprint.
        recipe: the recipe, as data.
    """

    name: str
    number: int
    fingerprint: str
    parent: int
    manifests: Mapping[str, str]
    recipe: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


class Log:
    """An append-only sequence of small JSON records, numbered from 1 without gaps."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"

    def length(self) -> int:
        """Return the number of records, by doubling and halving: log(n) look-ups."""
        high = 1
        while self._storage.exists(self._name(high)):
            high *= 2
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            if self._storage.exists(self._name(middle)):
                low = middle
            else:
                high = middle
        return low

    def read(self, number: int) -> dict[str, Any]:
        """Return a record."""
        data = self._storage.read(self._name(number))
        if data is None:
            raise IntegrityError(
                f"{self._name(number)} is missing from the store {self._storage.uri}"
            )
        record = json.loads(data)
        if record.get("format") != FORMAT_VERSION:
            raise IntegrityError(
                f"{self._name(number)} has format version {record.get('format')}, expected "
                f"{FORMAT_VERSION}"
            )
        return record  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(1, self.length() + 1):
            yield self.read(number)

    def append(self, record: Mapping[str, Any], *, after: int) -> bool:
        """Add a record as number `after` + 1; False if somebody else did so first."""
        return self._storage.create(
            self._name(after + 1), canonical_json({"format": FORMAT_VERSION, **record})
        )


class Store:
    """A store by its uri (a folder, or any fsspec uri); cheap to build, safe to pickle."""

    def __init__(self, uri: str, options: Mapping[str, Any] | None = None) -> None:
        self.storage = Storage(uri, options)

    def __reduce__(self) -> tuple[type["Store"], tuple[str, dict[str, Any]]]:
        return Store, (self.storage.uri, self.storage.options)

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.storage.uri

    def get_part(self, name: str, key: str) -> dict[str, Any] | None:
        """Return the record of a finished part, or None."""
        data = self.storage.read(f"{name}/parts/{key}.json")
        return None if data is None else json.loads(data)

    def put_part(self, name: str, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Publish a part's record; if another run was first, return what it published."""
        if self.storage.create(f"{name}/parts/{key}.json", canonical_json(record)):
            return dict(record)
        found = self.get_part(name, key)
        assert found is not None, "a part record cannot vanish"
        return found

    def put_manifest(self, manifest: Manifest) -> Manifest:
        """Publish a manifest (no write when it is there)."""
        name = f"{manifest.name}/manifests/{manifest.fingerprint}.json"
        if not self.storage.exists(name):
            self.storage.create(name, manifest.to_json())
        return manifest

    def get_manifest(self, name: str, digest: str) -> Manifest:
        """Read a manifest and check that it is the one its name says.

        Raises:
            IntegrityError: missing or altered.
        """
        where = f"{name}/manifests/{digest}.json"
        data = self.storage.read(where)
        if data is None:
            raise IntegrityError(f"{where} is missing from the store {self.uri}")
        if fingerprint(data) != digest:
            raise IntegrityError(
                f"{where} was altered: its content has fingerprint {fingerprint(data)}"
            )
        return Manifest.from_json(data, where)

    def pins(self, name: str, key: str) -> Log:
        """Return the log of a fitted artefact: its last record is the one in use."""
        return Log(self.storage, f"{name}/pins/{key}")

    def versions(self, corpus: str) -> Log:
        """Return a corpus's log."""
        return Log(self.storage, f"corpora/{corpus}/log")

    def tombstones(self) -> Log:
        """Return the log of takedowns; see `pipelines.passes.forgotten`."""
        return Log(self.storage, "forgotten/log")

    def withdrawals(self, corpus: str) -> Log:
        """Return the log of a corpus's withdrawn versions."""
        return Log(self.storage, f"corpora/{corpus}/withdrawn")

    def withdrawn(self, corpus: str) -> dict[int, dict[str, Any]]:
        """Return number -> {version, when, why} of the versions that a purge took out of use."""
        return {record["version"]: record for record in self.withdrawals(corpus)}

    def corpora(self) -> list[str]:
        """Return the names of the corpora here (for people: the only listing in the house)."""
        root = self.storage.full("corpora")
        try:
            entries = self.storage.fs.ls(root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    def current(self, corpus: str) -> Version | None:
        """Return a corpus's current version, None if there is none."""
        log = self.versions(corpus)
        length = log.length()
        return _version(log.read(length)) if length else None

    def find(self, corpus: str) -> Version:
        """Resolve NAME or NAME@VERSION.

        Raises:
            InputError: no such corpus or version, with the ones that exist; a withdrawn version.
        """
        name, at, number = corpus.partition("@")
        versions = {record["version"]: record for record in self.versions(name)} if name else {}
        if not versions:
            names = self.corpora()
            there = (
                f"it has {', '.join(names)}.{did_you_mean(name, names)}"
                if names
                else "it has none yet."
            )
            raise InputError(f"there is no corpus {name!r} in the store {self.uri}; {there}")
        if not at:
            found = self.current(name)
            assert found is not None
            return found
        if number not in map(str, versions):
            raise InputError(
                f"corpus {name!r} has no version {number!r}; versions are: "
                f"{', '.join(map(str, sorted(versions)))}"
            )
        self._refuse_withdrawn(name, int(number))
        return _version(versions[int(number)])

    def _refuse_withdrawn(self, name: str, number: int) -> None:
        record = self.withdrawn(name).get(number)
        if record is not None:
            raise InputError(
                f"{name}@{number} was withdrawn on {record['when']}: {record['why']}\n"
                f"its texts were deleted; the current version is {self.current(name)}"
            )

    def version(self, corpus: str, number: int) -> Version:
        """Return a version by its number, withdrawn or not: what it decided still counts.

        Raises:
            IntegrityError: it is not in the log.
        """
        for version in self.history(corpus):
            if version.number == number:
                return version
        raise IntegrityError(f"{corpus}@{number} is missing from the store {self.uri}")

    def history(self, corpus: str) -> list[Version]:
        """Return every version of a corpus once, withdrawn or not, by number."""
        records = {record["version"]: record for record in self.versions(corpus)}
        return [_version(records[number]) for number in sorted(records)]

    def replace(self, version: Version, manifests: Mapping[str, str]) -> Version | None:
        """Make a changed version current; None if `version` is not the current one any more."""
        log = self.versions(version.name)
        records = list(log)
        if not records or records[-1]["fingerprint"] != version.fingerprint:
            return None
        record = {
            "name": version.name,
            "version": 1 + max(record["version"] for record in records),
            "fingerprint": version_fingerprint(version.name, manifests),
            "parent": version.number,
            "manifests": dict(manifests),
            "recipe": dict(version.recipe),
        }
        return _version(record) if log.append(record, after=len(records)) else None

    def publish(
        self, corpus: str, manifests: Mapping[str, str], recipe: Mapping[str, Any]
    ) -> tuple[Version, bool]:
        """Make a version current; return it and whether anything was written.

        The same manifests make no new version: the log only moves back to the one that has them.
        """
        digest = version_fingerprint(corpus, manifests)
        log = self.versions(corpus)
        withdrawn = self.withdrawn(corpus)
        while True:
            records = list(log)
            current = records[-1] if records else None
            if current is not None and current["fingerprint"] == digest:
                return _version(current), False
            same = (r for r in records if r["fingerprint"] == digest)
            known = next((r for r in same if r["version"] not in withdrawn), None)
            record = known or {
                "name": corpus,
                "version": 1 + max((record["version"] for record in records), default=0),
                "fingerprint": digest,
                "parent": current["version"] if current else 0,
                "manifests": dict(manifests),
                "recipe": dict(recipe),
            }
            if log.append(record, after=len(records)):
                return _version(record), True


def version_fingerprint(corpus: str, manifests: Mapping[str, str]) -> str:
    """Return the identity of a version: 32 hex digits over its name and its manifests."""
    return fingerprint(corpus, canonical_json(dict(manifests)))


def _version(record: Mapping[str, Any]) -> Version:
    return Version(
        name=record["name"],
        number=record["version"],
        fingerprint=record["fingerprint"],
        parent=record["parent"],
        manifests=record["manifests"],
        recipe=record["recipe"],
    )
