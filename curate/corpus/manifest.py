"""A manifest: what a pass made, exactly, and from what; its fingerprint is its identity.

Canonical JSON with no time, no host and no sum of floats, so that the same work gives the same
fingerprint everywhere. A reader opens only what a manifest names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.corpus.errors import IntegrityError
from curate.corpus.identity import MultisetHash, canonical_json, fingerprint
from curate.corpus.schema import FORMAT_VERSION
from curate.corpus.shard import Shard, footer
from curate.corpus.storage import Storage

__all__ = ["Manifest", "canonical_json", "conserve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The result of a pass.

    Attributes:
        name: the pass.
        settings: what the recipe asked of it, JSON values only.
        code: digest of the code and libraries that shaped the bytes.
        parents: pass name -> fingerprint of the manifest it read.
        tables: table name -> its shards, in order.
        counts: integers for people and for conservation (rows in, rows out, by reason).
        info: further JSON facts (fitted artefacts, schemes, coverage).
    """

    name: str
    settings: Mapping[str, Any]
    code: str
    parents: Mapping[str, str]
    tables: Mapping[str, tuple[Shard, ...]]
    counts: Mapping[str, int] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the canonical JSON."""
        return canonical_json(
            {
                "format": FORMAT_VERSION,
                "pass": self.name,
                "settings": self.settings,
                "code": self.code,
                "parents": dict(self.parents),
                "tables": {
                    name: [s.to_dict() for s in shards] for name, shards in self.tables.items()
                },
                "counts": dict(self.counts),
                "info": self.info,
            }
        )

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "Manifest":
        """Rebuild from JSON; refuse another format version."""
        raw = json.loads(data)
        if raw.get("format") != FORMAT_VERSION:
            raise IntegrityError(
                f"{where} has format version {raw.get('format')}, this Preceptor reads "
                f"{FORMAT_VERSION}"
            )
        return cls(
            name=raw["pass"],
            settings=raw["settings"],
            code=raw["code"],
            parents=raw["parents"],
            tables={
                name: tuple(map(Shard.from_dict, shards)) for name, shards in raw["tables"].items()
            },
            counts=raw["counts"],
            info=raw["info"],
        )

    @property
    def fingerprint(self) -> str:
        """32 hex digits of the canonical JSON."""
        return fingerprint(self.to_json())

    @property
    def content(self) -> str:
        """32 hex digits of the tables' content alone: what a child's work depends on."""
        return fingerprint(
            *(f"{name}:{s.sha256}" for name in sorted(self.tables) for s in self.tables[name])
        )

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        return sum(shard.rows for shard in self.tables.get(table, ()))


def conserve(
    storage: Storage, what: str, left: tuple[Shard, ...], right: tuple[Shard, ...]
) -> None:
    """Check that two tables hold the same documents, from the files' own footers.

    Raises:
        IntegrityError: rows or ids differ; nothing may be committed.
    """
    sums = []
    for shards in (left, right):
        ids, rows = MultisetHash(), 0
        for shard in shards:
            found = footer(storage, shard)
            ids.merge(found["ids"])
            rows += int(found["rows"])
        sums.append((rows, ids.hexdigest()))
    if sums[0] != sums[1]:
        raise IntegrityError(
            f"conservation broken in {what}: {sums[0][0]} documents went in, {sums[1][0]} came "
            "out, "
            f"id sums {sums[0][1][:8]} and {sums[1][1][:8]}; nothing was committed"
        )
