"""Starting vLLM, and why it does not start, in one line."""

from __future__ import annotations

from typing import Any

from vllm import LLM

from rllib_dapo.findings import one_line
from rllib_dapo.rollout.engine import CHANGED_CLASSES
from rllib_dapo.rollout.worker_errors import WorkerErrors, worker_errors
from rllib_dapo.rollout.worker_processes import workers_end_with_a_failure
from rllib_dapo.rollout.worker_server import copied_workers


def start_vllm(settings: dict[str, Any], *, num_workers: int) -> LLM:
    """Starts vLLM; its errors, often many lines, become one that names the setting."""
    with worker_errors() as errors:
        try:
            with workers_end_with_a_failure(), copied_workers(num_workers):
                llm = LLM(**settings)
        except Exception as error:
            reason = _reason(error) if num_workers == 1 else _workers_reason(error, errors)
            raise ValueError(
                f"rollout.engine=vllm cannot run language_model.name={settings['model']!r}: "
                f"{reason[:300]}; mend that, or set rollout.engine to transformers"
            ) from error

    model_config = llm.llm_engine.model_config
    # In other processes the classes of this one stay as they are.
    if num_workers == 1 and model_config.using_transformers_backend():
        CHANGED_CLASSES.update(model_config.architectures)
    return llm


def _workers_reason(error: Exception, errors: WorkerErrors) -> str:
    """Why an engine with workers in other processes does not start."""
    told = errors.first()
    if told is None and "WorkerProc" in str(error):  # only that there was an error somewhere
        return "a worker process has ended: it was killed, or the machine ran out of memory"
    return told or _reason(error)


def _reason(error: Exception) -> str:
    """What pydantic, which wraps vLLM's own messages, was told; else the message."""
    details = getattr(error, "errors", None)
    if callable(details):
        return str(details()[0]["msg"]).removeprefix("Value error, ")
    return one_line(error)
