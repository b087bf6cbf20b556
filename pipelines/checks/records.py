"""What checks found, and what came of it: results beside a version, and an append-only log.

    corpora/NAME/checks/results/KEY.json   what the checks of a version gave
    corpora/NAME/checks/log/00000001.json  which checks a version must pass; refusals; overrides

A recipe that differs in its checks alone makes the same version, so the log, and not the version,
says which checks are in force. Nothing is written where a recipe has no checks.
"""

import contextlib
import datetime
import json
from collections.abc import Mapping
from typing import Any

from curate.corpus.errors import InputError
from curate.corpus.identity import canonical_json, fingerprint
from pipelines.checking import Check
from pipelines.corpus import Corpus
from pipelines.store import Log

__all__ = [
    "admit",
    "digest_of",
    "history",
    "in_force",
    "inherit",
    "listed",
    "results",
    "settle",
    "stored",
]

_EVALUATION = 2  # a change of what a query means must not find old results
_LISTED = 10  # names of failed checks in a message


def settle(corpus: Corpus, checks: Mapping[str, Check]) -> list[dict[str, Any]]:
    """Put a recipe's checks in force for a version, run them, and return what they gave."""
    _ask(corpus, _data(checks))
    return results(corpus)


def inherit(corpus: Corpus, parent: Corpus) -> None:
    """Put in force for a version, before it is current, what is in force for its parent.

    A takedown changes no recipe, so it takes no check away, nor brings one back.
    """
    _ask(corpus, _asked(parent))


def _ask(corpus: Corpus, wanted: list[list[Any]]) -> None:
    if wanted or _asked(corpus):
        log = _log(corpus)
        while _recorded(corpus) != wanted:
            record = {"event": "asked", **_version(corpus), "checks": wanted}
            log.append(record, after=log.length())


def in_force(corpus: Corpus) -> dict[str, Check]:
    """Return the checks that a version must pass."""
    return {name: Check.model_validate(data) for name, data in _asked(corpus)}


def results(corpus: Corpus) -> list[dict[str, Any]]:
    """Return what the checks in force gave, evaluating them unless that was done before."""
    checks = in_force(corpus)
    if not checks:
        return []
    found = _read(corpus, _data(checks))
    if found is None:
        from pipelines.checks.evaluate import evaluate

        found = evaluate(corpus, checks)
        data = canonical_json({"results": found})
        with contextlib.suppress(OSError):  # a store that is read only holds what it held
            corpus.store.storage.create(_result_name(corpus, _data(checks)), data)
    return found


def stored(corpus: Corpus) -> list[dict[str, Any]] | None:
    """Return what the checks in force gave when they ran; None if there are none or never did."""
    asked = _asked(corpus)
    return _read(corpus, asked) if asked else None


def admit(corpus: Corpus, run_id: str, despite: str | None = None) -> dict[str, Any]:
    """Let a run train on a version, or refuse; either is on record where checks fail.

    Args:
        corpus: the version.
        run_id: who asks.
        despite: the reason to train although checks fail.

    Returns:
        What the run's file says of it: `digest` of the checks, the names that `failed`, and the
        reason `despite` which it goes on; empty where there are no checks.

    Raises:
        InputError: checks fail and no reason is given, or the reason is empty.
    """
    if despite is not None and not despite.strip():
        raise InputError("--despite-checks wants the reason, which is recorded")
    found = results(corpus)
    if not found:
        return {}
    failed = [result["name"] for result in found if not result["passed"]]
    record = {**_version(corpus), "run": run_id, "failed": failed}
    if failed and despite is None:
        with contextlib.suppress(OSError):  # refused it is, also where nothing can be written
            _append(corpus, {"event": "refused", **record})
        raise InputError(
            f"{corpus.version} fails {len(failed)} of its {len(found)} checks: {listed(failed)}; "
            f"`preceptor check {corpus.version}` shows them\n"
            'Mend the recipe, or train nevertheless: --despite-checks "the reason"'
        )
    if failed:
        _append(corpus, {"event": "overridden", **record, "reason": despite})
    digest = digest_of(in_force(corpus))
    return {"digest": digest, "failed": failed, "despite": despite if failed else None}


def history(corpus: Corpus) -> list[dict[str, Any]]:
    """Return the refusals and overrides of a version, the oldest first."""
    return [
        record
        for record in _log(corpus)
        if record["event"] != "asked" and record["fingerprint"] == corpus.version.fingerprint
    ]


def digest_of(checks: Mapping[str, Check]) -> str:
    """Return 32 hex digits over what the checks ask."""
    return fingerprint(canonical_json(_data(checks)))


def listed(names: list[str]) -> str:
    """Return the first few names in a line."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _data(checks: Mapping[str, Check]) -> list[list[Any]]:
    """Return [[name, check], ...] in order: canonical JSON sorts the keys of a mapping."""
    return [
        [name, check.model_dump(mode="json", exclude_none=True)] for name, check in checks.items()
    ]


def _asked(corpus: Corpus) -> list[list[Any]]:
    """Return the checks in force, as data: those of the newest run that made this version."""
    recorded = _recorded(corpus)
    if recorded is not None:
        return recorded
    given = corpus.recipe.get("checks") or {}  # a run that was cut off, or no run at all, made it
    return _data({name: Check.model_validate(data) for name, data in given.items()})


def _recorded(corpus: Corpus) -> list[list[Any]] | None:
    mine = corpus.version.fingerprint
    for record in reversed(list(_log(corpus))):
        if record["event"] == "asked" and record["fingerprint"] == mine:
            return list(record["checks"])
    return None


def _version(corpus: Corpus) -> dict[str, Any]:
    return {"version": corpus.version.number, "fingerprint": corpus.version.fingerprint}


def _log(corpus: Corpus) -> Log:
    return Log(corpus.store.storage, f"corpora/{corpus.version.name}/checks/log")


def _append(corpus: Corpus, record: Mapping[str, Any]) -> None:
    """Add a record with the time, unless the newest one of this run says the same."""
    log = _log(corpus)
    while True:
        records = list(log)
        mine = [r for r in records if r.get("run") == record["run"]]
        if mine and {**mine[-1], "at": "", "format": 0} == {**record, "at": "", "format": 0}:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        if log.append({**record, "at": now}, after=len(records)):
            return


def _result_name(corpus: Corpus, asked: list[list[Any]]) -> str:
    from importlib.metadata import version

    key = fingerprint(
        corpus.version.fingerprint, str(_EVALUATION), version("polars"), canonical_json(asked)
    )
    return f"corpora/{corpus.version.name}/checks/results/{key}.json"


def _read(corpus: Corpus, asked: list[list[Any]]) -> list[dict[str, Any]] | None:
    data = corpus.store.storage.read(_result_name(corpus, asked))
    if data is None:
        return None
    found: list[dict[str, Any]] = json.loads(data)["results"]
    return found
