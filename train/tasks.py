"""Tasks of lm-eval (the Language Model Evaluation Harness) on a handed-off folder, offline.

lm-eval loads the folder as anybody's model, through `transformers`. A task whose data is not on
this machine is refused by the libraries below it: nothing is fetched unless `HF_HUB_OFFLINE=0` is
set. A task of one's own is a YAML file that names local files; it may name Python code, which then
runs: use tasks you trust.
"""

import importlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError, did_you_mean

__all__ = ["run_tasks"]

NEEDED = {"lm_eval": "lm-eval", "transformers": "transformers", "accelerate": "accelerate"}


def _need_harness() -> None:
    """Refuse early, where lm-eval or what it needs for our folders is not installed."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(
            f"tasks need {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            f"installed here: pip install 'lm-eval[hf]' (or leave out --tasks)"
        )


def run_tasks(
    folder: Path,
    names: Sequence[str],
    *,
    tasks_dir: str | Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
) -> dict[str, dict[str, Any]]:
    """Return {task: {"metric,filter": value}} as lm-eval names them, errors included.

    Args:
        folder: that `transformers` can load; bos comes first, as in training.
        names: of tasks.
        tasks_dir: a folder of YAML files with tasks of one's own.
        limit: examples of each task.
        device: where the model runs.

    Raises:
        InputError: lm-eval is missing, has no such task, or cannot get at a task's data.
    """
    _need_harness()
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(variable, "1")  # read when the libraries are imported
    harness: Any = importlib.import_module("lm_eval")
    kinds: Any = importlib.import_module("lm_eval.tasks")
    manager = kinds.TaskManager(include_path=None if tasks_dir is None else str(tasks_dir))
    for name in names:
        if name not in manager.all_tasks:
            raise InputError(
                f"lm-eval has no task {name!r} among its {len(manager.all_tasks):,}."
                f"{did_you_mean(name, manager.all_tasks)} `lm-eval ls tasks` lists them"
            )
    try:
        found = harness.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(folder), "add_bos_token": True, "dtype": "float32"},
            tasks=list(names),
            task_manager=manager,
            limit=limit,
            device=device,
            batch_size=8,
            log_samples=False,
            bootstrap_iters=1000,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"lm-eval could not run {', '.join(names)}: {first}\n"
            "Nothing is fetched here; bring a task's data to this machine first, or give "
            "--tasks-dir with YAML files that name local data"
        ) from error
    results: dict[str, dict[str, Any]] = found["results"]
    return {
        name: {key: value for key, value in entry.items() if isinstance(value, int | float)}
        for name, entry in results.items()
    }
