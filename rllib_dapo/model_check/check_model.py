"""The whole check: of a run's model before its first step, and of any model by command."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup

from rllib_dapo.core import RowWork
from rllib_dapo.findings import one_line
from rllib_dapo.learner.collectives import rank
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.model_work import work_of
from rllib_dapo.model_check.computation import SHARED_ROWS, check_computation
from rllib_dapo.model_check.files import check_files, check_system_prompt
from rllib_dapo.model_check.lora_modules import check_lora_modules
from rllib_dapo.model_check.model_report import ModelFinding, ModelReport, refuse
from rllib_dapo.model_check.parallel_sizes import check_parallel_sizes
from rllib_dapo.model_check.round_trip import check_round_trip
from rllib_dapo.model_check.router_loss import ROUTER_LOSS
from rllib_dapo.model_check.sizes import Lengths, check_sizes
from rllib_dapo.models import load_config, load_tokenizer, resolve_model

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.learner.learner import DAPOTorchLearner
    from rllib_dapo.learner.module import CausalLMModule

logger = logging.getLogger(__name__)


class ModelCheck:
    """The check of a run's model: its sizes before anything heavy starts, then all the rest.

    Attributes:
        report: Everything that was found, once `compare` has been called.
    """

    report: ModelReport

    def __init__(self, config: DAPOConfig) -> None:
        """Checks sizes.

        Args:
            config: The algorithm's configuration.

        Raises:
            ValueError: If the model cannot be trained as it is; one line.
        """
        self._lengths = Lengths(
            max_prompt_tokens=config.max_prompt_tokens,
            max_response_tokens=config.max_response_tokens,
        )
        model = resolve_model(str(config.model_name))
        sizes = [
            *check_sizes(model, self._lengths),
            *check_parallel_sizes(model, config),
            *check_lora_modules(model, config),
        ]
        refuse(sizes, model=str(config.model_name))
        refuse_prompt_settings(config)

    def compare(self, learner_group: LearnerGroup, config: DAPOConfig) -> DAPOConfig:
        """Checks files and computation where the model is loaded; Learners then take the right way.

        Args:
            learner_group: The Learners, before the first update.
            config: The algorithm's configuration.

        Returns:
            The configuration to go on with: without shared rows where these are wrong, and with
            what the model's rows cost.

        Raises:
            ValueError: If the model cannot be trained as it is; one line.
        """
        started = time.perf_counter()
        lengths, shares_rows = self._lengths, config.max_shared_row_tokens != 0
        findings, architecture, work = ask_learners(
            learner_group,
            lambda learner: check_learner(learner, lengths=lengths, shares_rows=shares_rows),
        )[0]

        self.report = ModelReport(
            model=str(config.model_name),
            architecture=architecture,
            findings=tuple(findings),
            seconds=time.perf_counter() - started,
        )
        refuse(findings, model=self.report.model)
        for finding in findings:
            if finding.verdict == "slower" or finding.check == ROUTER_LOSS:
                logger.warning("%s: %s", finding.check, finding.detail)
        return _with_row_work(_without_wrong_shortcuts(config, self.report), work)


def refuse_prompt_settings(config: DAPOConfig) -> None:
    """Refuses settings of prompts that do not suit the model's chat template.

    Args:
        config: The algorithm's configuration; the model must be on this machine.

    Raises:
        ValueError: If the template refuses or drops the system prompt, is not one, or never reads
            what `chat_template_kwargs` names; one line.
    """
    if config.system_prompt or config.chat_template or config.chat_template_kwargs:
        model = str(resolve_model(str(config.model_name)))
        tokenizer = load_tokenizer(model, **config.tokenizer_settings)
        findings = check_system_prompt(tokenizer, config.system_prompt)
        refuse(findings, model=str(config.model_name))


def check_learner(
    learner: DAPOTorchLearner, *, lengths: Lengths, shares_rows: bool
) -> tuple[list[ModelFinding], str, RowWork]:
    """Checks the model that a Learner holds; all Learners do so at the same time.

    Args:
        learner: The Learner.
        lengths: How long sequences get.
        shares_rows: Whether responses are to share rows.

    Returns:
        What was found, the name of the model's class, and what its rows cost.
    """
    module = learner.policy_module
    findings = check_computation(
        module,
        learner.forward_micro_batch,
        device=learner.device,
        longest=lengths.total,
        shares_rows=shares_rows,
    )
    if rank() == 0:
        of_files = check_files(
            str(resolve_model(str(learner.config.model_name))),
            lengths=lengths,
            # Whether an environment answers back turns out only when it does.
            max_turns=1,
            system_prompt=learner.config.system_prompt,
            **learner.config.tokenizer_settings,
        )
        findings = [*of_files, *findings, check_round_trip(module)]
    return findings, type(module.lm).__name__, work_of(module.lm)


def check_folder(
    config: DAPOConfig, *, lengths: Lengths | None, say: Callable[[str], None] = lambda line: None
) -> ModelReport:
    """Checks any model, in this process and without a run.

    Args:
        config: Names the model and how it is to be computed.
        lengths: How long sequences get; None if that is not known yet.
        say: Receives lines about progress.
    """
    started = time.perf_counter()
    model = str(resolve_model(str(config.model_name)))

    say("reading configuration, tokenizer and template")
    architecture = type(load_config(model, trust_remote_code=config.trust_remote_code)).__name__
    findings = check_files(
        model,
        lengths=lengths,
        max_turns=1,
        system_prompt=config.system_prompt,
        **config.tokenizer_settings,
    )

    say("loading the weights")
    try:
        module = _build_module(config)
    except Exception as error:  # a model's own code may raise anything
        reason = one_line(error).removeprefix(f"language_model.name={model!r}: ")
        findings.append(ModelFinding(check="weights", verdict="refused", detail=reason))
    else:
        say("computing log-probabilities in several ways, and writing a checkpoint")
        findings += check_computation(
            module,
            module.forward_train,
            device="cpu",
            longest=lengths.total if lengths else 2**31,
            shares_rows=True,
        )
        findings.append(check_round_trip(module))
        architecture = type(module.lm).__name__

    return ModelReport(
        model=str(config.model_name),
        architecture=architecture,
        findings=tuple(findings),
        seconds=time.perf_counter() - started,
    )


def _build_module(config: DAPOConfig) -> CausalLMModule:
    from rllib_dapo.envs import TextSpace

    spaces = {DEFAULT_MODULE_ID: (TextSpace(1), TextSpace(1))}
    spec = config.get_multi_rl_module_spec(spaces=spaces, inference_only=False)
    module: CausalLMModule = spec.build()[DEFAULT_MODULE_ID]
    return module


def _without_wrong_shortcuts(config: DAPOConfig, report: ModelReport) -> DAPOConfig:
    if not any(f.check == SHARED_ROWS and f.verdict == "slower" for f in report.findings):
        return config
    changed = config.copy(copy_frozen=False)
    changed.max_shared_row_tokens = 0
    changed.freeze()
    return changed


def _with_row_work(config: DAPOConfig, work: RowWork) -> DAPOConfig:
    changed = config.copy(copy_frozen=False)
    changed.row_work = work
    changed.freeze()
    return changed
