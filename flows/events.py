"""The events of a corpus, and the trigger that listens to them.

An event is about the resource `preceptor.corpus.NAME`, labelled with its store, and carries
strings only: a trigger hands on one of them, NAME@VERSION, and whoever gets it reads the store.
"""

from collections.abc import Mapping

from prefect.events import DeploymentEventTrigger, emit_event

from pipelines.store import Store, Version

__all__ = ["COMMITTED", "READY", "emit", "when_ready"]

#: A version is current. Emitted by every successful run, whether or not the version is new.
COMMITTED = "preceptor.corpus.committed"
#: The version is what its manifests say, and the recipe's checks pass.
READY = "preceptor.corpus.ready"

_STORE_LABEL = "preceptor.store"


def emit(event: str, version: Version, store: Store) -> None:
    """Tell Prefect's server that something happened to a corpus version."""
    emit_event(
        event,
        resource={
            "prefect.resource.id": f"preceptor.corpus.{version.name}",
            "prefect.resource.name": version.name,
            _STORE_LABEL: store.uri,
        },
        payload={
            "corpus": str(version),
            "fingerprint": version.fingerprint,
            "store": store.uri,
        },
    )


def when_ready(name: str, store: Store, parameters: Mapping[str, str]) -> DeploymentEventTrigger:
    """Start a deployment with `corpus` (and fixed parameters) when a corpus of a store is ready.

    The template gives a string, so the event's NAME@VERSION is all that travels in it.
    """
    return DeploymentEventTrigger(
        name=f"{name} is ready",
        enabled=True,
        expect={READY},
        match={"prefect.resource.id": f"preceptor.corpus.{name}", _STORE_LABEL: store.uri},
        parameters={**parameters, "corpus": "{{ event.payload.corpus }}"},
    )
