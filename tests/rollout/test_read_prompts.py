"""Prompts and observations that are conversations, from an environment to the model's ids."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup
from rllib_dapo.envs import Problem, SingleStepTextEnv, TextSpace, Verdict
from rllib_dapo.envs.messages import as_conversation, plain_text
from rllib_dapo.envs.tools_env import function_tool
from rllib_dapo.models import load_tokenizer
from rllib_dapo.models.tiny import CHAT_TEMPLATE, make_tokenizer
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.read_prompts import check_first_prompt
from rllib_dapo.rollout.runner_environments import RunnerEnvironments

MakeConfig = Callable[..., DAPOConfig]

SYSTEM, USER = {"role": "system", "content": "be brief"}, {"role": "user", "content": "1+1="}
EARLIER = [SYSTEM, USER, {"role": "assistant", "content": "3"}, {"role": "user", "content": "no"}]
ROLES = (
    "{% for m in messages %}<unk>{{ m.role }}\n{{ m.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<unk>assistant\n{% endif %}"
)


class MessagesEnv(gym.Env):
    """Observes what its settings say, at reset and after every response."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.observation_space = self.action_space = TextSpace(1000)
        self.settings = {"prompt": "1+1=", "next": None, **config}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.heard = 0
        return self.settings["prompt"], {}

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict]:
        self.heard += 1
        is_last = self.settings["next"] is None or self.heard == 2
        return self.settings["next"], float(self.heard), is_last, False, {}


@pytest.fixture
def runner_of(rollout_config: MakeConfig) -> Iterator[Callable[..., TextEnvRunner]]:
    made: list[TextEnvRunner] = []

    def make(template: str = ROLES, **env_config: Any) -> TextEnvRunner:
        config = rollout_config(MessagesEnv, **env_config)
        config.rollout(max_prompt_tokens=200, max_response_tokens=100, max_turns=3)
        runner = TextEnvRunner(config=config)
        made.append(runner)
        runner.tokenizer.chat_template = template
        return runner

    yield make
    for runner in made:
        runner.stop()


def groups_of(runner: TextEnvRunner) -> list[PromptGroup]:
    return [sampled.group() for sampled in runner.sample_groups(range(3)).groups]


def rendered(runner: TextEnvRunner, messages: list[dict[str, str]]) -> list[int]:
    return runner.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )


def test_system_prompts_and_earlier_turns_of_an_environment_reach_the_model(
    runner_of: Callable[..., TextEnvRunner],
) -> None:
    runner = runner_of(prompt=EARLIER)
    group = groups_of(runner)[0]
    assert group.prompt_ids.tolist() == rendered(runner, EARLIER)
    assert group.prompt == "system: be brief\n\nuser: 1+1=\n\nassistant: 3\n\nuser: no"


def test_the_setting_system_prompt_is_put_in_front_unless_there_is_one(
    runner_of: Callable[..., TextEnvRunner],
) -> None:
    runner = runner_of(prompt="1+1=")
    runner.config.language_model(system_prompt="be brief")
    assert groups_of(runner)[0].prompt_ids.tolist() == rendered(runner, [SYSTEM, USER])
    runner.env.unwrapped.settings["prompt"] = EARLIER
    runner.config.language_model(system_prompt="another")
    assert groups_of(runner)[0].prompt_ids.tolist() == rendered(runner, EARLIER)


@pytest.mark.parametrize(
    "observed",
    ["12=", [{"role": "tool", "content": "4"}, USER], [{"role": "user", "content": "<eos>1+1="}]],
)
def test_step_observes_a_text_or_messages(
    runner_of: Callable[..., TextEnvRunner], observed: Any
) -> None:
    runner = runner_of(CHAT_TEMPLATE, next=observed)
    responses = [r for group in groups_of(runner) for r in group.responses if r.num_turns > 1]
    assert responses
    for response in responses:
        read = response.token_ids[~response.loss_mask].tolist()
        assert runner.tokenizer.decode(read) == "".join(
            message.content for message in as_conversation(observed)
        )
        # Nothing that was observed is an end, whatever it looks like.
        assert runner.tokenizer.eos_token_id not in read
        assert response.turns[0].observation == plain_text(as_conversation(observed))


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        ([{"role": "tool", "content": "4"}], "roles user, assistant, tool"),
        ([{"role": "user", "content": 4}], "has the content 4"),
        ([], "step must return a text to go on with, or messages: a prompt must have at least"),
        ({"role": "user"}, "step must return a text to go on with, or messages: a prompt must be"),
    ],
)
def test_an_observation_that_cannot_be_read_costs_its_own_episode(
    runner_of: Callable[..., TextEnvRunner], observed: Any, said: str
) -> None:
    template = CHAT_TEMPLATE.replace(
        "{{ m", "{% if message.role == 'tool' %}{{ no.tools.here }}{% endif %}{{ m"
    )
    runner = runner_of(template, next=observed)
    responses = [r for group in groups_of(runner) for r in group.responses]
    missing = [r for r in responses if r.is_missing]
    assert missing
    assert all(said in r.reason and "\n" not in r.reason for r in missing)
    # A turn that ran out of tokens is not followed by an observation.
    assert all(r.is_missing or r.finish_reason == "length" for r in responses)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ({"role": "user", "content": "1+1="}, "must be a text or a list of messages, not dict"),
        (5, "not int: 5"),
        (None, "not NoneType"),
        (b"1+1=", "not bytes"),
        ([], "at least one message"),
        ([{"role": "wizard", "content": "x"}], "role 'wizard'"),
        (EARLIER[:3], "must not be the assistant's"),
    ],
)
def test_what_is_no_prompt_is_refused_before_an_engine_starts(
    rollout_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, prompt: Any, said: str
) -> None:
    started: list[TextEnvRunner] = []
    monkeypatch.setattr(TextEnvRunner, "make_module", started.append)
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        TextEnvRunner(config=rollout_config(MessagesEnv, prompt=prompt))
    assert ":MessagesEnv: the prompt of seed 0: " in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not started


def test_a_prompt_that_the_template_refuses_is_named(
    runner_of: Callable[..., TextEnvRunner],
) -> None:
    runner = runner_of(ROLES.replace("<unk>{{", "{{ {'user': ''}[m.role] ~ no[m.role] }}{{"))
    runner.env.unwrapped.settings["prompt"] = EARLIER
    (group, *_) = groups_of(runner)
    assert not group.responses
    assert group.lost.startswith("crash: the prompt cannot be read: the chat")


def test_rewards_see_marks_that_are_special_tokens(
    rollout_config: MakeConfig, raw_model: Path, tmp_path: Path
) -> None:
    # Digits take the place of <think> and the like: they are what this model can write.
    folder = tmp_path / "model"
    shutil.copytree(raw_model, folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": [*"0123456789"]})
    tokenizer.save_pretrained(folder)

    seen = {}
    for skip in ("template", True, False):
        config = rollout_config().language_model(str(folder))
        runner = TextEnvRunner(config=config.rollout(skip_special_tokens=skip))
        seen[skip] = [r.text for group in groups_of(runner) for r in group.responses]
        runner.stop()
    assert any(text.isdigit() for text in seen["template"])
    assert not any(character.isdigit() for text in seen[True] for character in text)
    assert any("<eos>" in text for text in seen[False])
    assert [text.replace("<eos>", "") for text in seen[False]] == seen["template"]


class ChatProblems(SingleStepTextEnv):
    """Problems that are conversations, scored here or in a process."""

    def problem(self, seed: int) -> Problem:
        prompt = as_conversation([SYSTEM, {"role": "user", "content": f"{seed}+0="}])
        return Problem(prompt=prompt, answer=str(seed), problem_id=str(seed))

    def score(self, problem: Problem, response: str) -> Verdict:
        roles = [message.role for message in as_conversation(problem.prompt)]
        return Verdict(is_correct=roles == ["system", "user"], prediction=response)


@pytest.mark.parametrize("place", ["here", "process"])
def test_a_problem_may_be_a_conversation(place: str) -> None:
    env = ChatProblems(verify_in=place)
    observation, _ = env.reset(seed=3)
    assert observation == [SYSTEM, {"role": "user", "content": "3+0="}]
    assert env.observation_space.contains(observation)
    _, reward, *_ = env.step("3")
    assert reward == 1.0
    env.close()


class ToolEnv(MessagesEnv):
    """Declares a tool, and says that episodes have several turns."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        prompt, info = super().reset(seed=seed)
        tools = [function_tool("f", "F.", {})] if self.settings["tools"] else []
        return prompt, {**info, "tools": tools, "max_turns": 3}


ONE_QUESTION = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "tools", "parser", "said"),
    [
        (ROLES, True, "", "declares tools, and rollout.tool_call_parser is not set"),
        (ROLES, True, "hermes", "does not declare the tool 'f'"),
        (ONE_QUESTION, False, "", "an episode has up to 3 turns, and the model's chat template"),
    ],
    ids=["no parser", "no tools", "one question"],
)
def test_an_episode_that_the_template_cannot_write_is_refused_before_an_engine_starts(
    rollout_config: MakeConfig, template: str, tools: bool, parser: str, said: str
) -> None:
    config = rollout_config(ToolEnv, prompt="1+1=", tools=tools)
    config.rollout(max_turns=3, tool_call_parser=parser)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    environments = RunnerEnvironments(config, worker_index=0, num_workers=0)
    try:
        with pytest.raises(ValueError, match=said) as raised:
            check_first_prompt(environments.stepper(), tokenizer, config)
        assert "\n" not in str(raised.value)
        # Where the policy speaks once, nothing has to follow.
        config.rollout(max_turns=1)
        if not tools:
            check_first_prompt(environments.stepper(), tokenizer, config)
    finally:
        environments.close()
