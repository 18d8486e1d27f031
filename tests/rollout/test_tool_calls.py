"""Calls of tools in the formats of known families, read by vLLM's own parsers."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rllib_dapo.envs.calculator.env import CALCULATOR, CalculatorMathEnv
from rllib_dapo.envs.tools import ModelTurn, ToolCall
from rllib_dapo.envs.tools_env import function_tool
from rllib_dapo.models import prompt_token_ids
from rllib_dapo.models.tiny_tools import ToolsRecipe, called
from rllib_dapo.rollout.engine import Completion, Engine, FinishedResponse, Request, Sampling
from rllib_dapo.rollout.make_env_stepper import make_env_stepper
from rllib_dapo.rollout.rollout_loop import Prompt, RolloutLoop
from rllib_dapo.rollout.tool_calls import ToolCallReader
from tests.models.chat_families import FAMILIES, tokenizer_of

# vLLM takes seconds to load.
pytestmark = pytest.mark.slow

ADD = function_tool("add", "Add two numbers.", {name: {"type": "integer"} for name in "ab"})
ADDED = ToolCall(name="add", arguments={"a": 1, "b": 2})
XML = (
    "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n</parameter>\n"
    "</function>\n</tool_call>"
)
FORMATS = [(name, f.parser, f.call) for name, f in FAMILIES.items() if f.parser]
FORMATS += [("qwen3", "qwen3_xml", XML)]
FORMAT_IDS = [f"{name}-{parser}" for name, parser, _ in FORMATS]


def read(name: str, parser: str, text: str) -> ModelTurn:
    tokenizer = tokenizer_of(name)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    reader = ToolCallReader(tokenizer, parser)
    return reader.read(text, [*ids, tokenizer.eos_token_id], [ADD])


@pytest.mark.parametrize(("name", "parser", "call"), FORMATS, ids=FORMAT_IDS)
def test_a_call_is_read_in_its_familys_format(name: str, parser: str, call: str) -> None:
    assert read(name, parser, call).tool_calls == (ADDED,)
    turn = read(name, parser, "The answer is 3.")
    assert (turn, turn.tool_calls, turn.call_error) == ("The answer is 3.", (), "")


@pytest.mark.parametrize("call", ["<tool_call>{", '<tool_call>{"name": "add"}</tool_call>'])
def test_a_call_that_cannot_be_read_is_told(call: str) -> None:
    turn = read("qwen2.5", "hermes", call)
    assert turn.tool_calls == ()
    assert "cannot be read" in turn.call_error


def test_calls_that_are_only_thought_of_are_not_made() -> None:
    call = FAMILIES["qwen3"].call
    thought = read("qwen3", "hermes", f"<think>\n{call}\n</think>\n\n3")
    assert (thought.tool_calls, thought.call_error) == ((), "")
    assert read("qwen3", "hermes", f"<think>\nlet me\n</think>\n\n{call}").tool_calls == (ADDED,)


_READERS: dict[str, ToolCallReader] = {}
PIECES = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<function=add>", "<parameter=a>", "</parameter>"),
        *('"name": "add"', '"arguments": ', "{", "}", "[", "]", '"', "1", " ", "\n"),
        *("\x00", "\u00e9", "\\u12", "functools["),
    ]
)


@pytest.mark.parametrize("parser", ["hermes", "qwen3_xml", "phi4_mini_json", "granite", "pythonic"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.lists(PIECES, max_size=25).map("".join))
def test_whatever_a_model_writes_gives_calls_or_words_and_never_raises(
    parser: str, text: str
) -> None:
    tokenizer = tokenizer_of("qwen3")
    reader = _READERS.setdefault(parser, ToolCallReader(tokenizer, parser))
    turn = reader.read(text, tokenizer(text, add_special_tokens=False)["input_ids"], [ADD])
    assert all(isinstance(call.arguments, dict) for call in turn.tool_calls)
    assert not (turn.tool_calls and turn.call_error)


def test_deep_nesting_is_told_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        turn = read("qwen2.5", "hermes", f"<tool_call>{'[' * 20_000}</tool_call>")
    assert "cannot be read" in turn.call_error
    assert not caplog.records


@pytest.mark.parametrize(
    ("parser", "said"),
    [("hermess", "is not a parser of vLLM's"), ("mistral", "does not suit the model's tokenizer")],
)
def test_a_parser_that_cannot_work_is_refused_in_one_line(parser: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        ToolCallReader(tokenizer_of("qwen2.5"), parser)
    assert "\n" not in str(raised.value)


class ScriptedEngine(Engine):
    """Answers requests with texts that a test has written, each once."""

    def __init__(self, tokenizer: Any, texts: Iterable[str]) -> None:
        self.tokenizer, self.texts = tokenizer, deque(texts)
        self.requests: list[Request] = []
        self.waiting: deque[Request] = deque()

    def add(self, request: Request) -> None:
        self.requests.append(request)
        self.waiting.append(request)

    def step(self) -> list[FinishedResponse]:
        self.steps += 1
        finished = []
        while self.waiting:
            request = self.waiting.popleft()
            for place in request.wanted:
                text = self.texts.popleft()
                ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
                token_ids = np.array([*ids, self.tokenizer.eos_token_id], np.int32)
                logprobs = np.zeros(len(token_ids), np.float32)
                completion = Completion(
                    token_ids=token_ids, logprobs=logprobs, finish_reason="stop"
                )
                finished.append(
                    FinishedResponse(key=request.key, index=place, completion=completion)
                )
        return finished

    @property
    def is_idle(self) -> bool:
        return not self.waiting

    def abort(self, keys: Any = None) -> None:
        self.waiting.clear()

    def load_weights(self, weights: Any) -> None:
        """There are none."""

    def weight_checksums(self, blocks: Any) -> list[Any]:
        return []

    def close(self) -> None:
        """There is nothing to close."""


def test_calls_reach_the_environment_and_results_follow_what_was_sampled() -> None:
    tokenizer = ToolsRecipe().tokenizer()
    env_config = {"calls": "native", "problem_config": {"operations": "*", "max_operand": 19}}
    env = CalculatorMathEnv(env_config)
    prompt, info = env.reset(seed=3)
    expression = str(prompt).removesuffix("=")
    said = [called("1/0"), "<tool_call>oops</tool_call>", called(expression)]
    first, second = map(int, expression.split("*"))
    answer = str(first * second)
    engine = ScriptedEngine(tokenizer, [*said, answer])
    stepper = make_env_stepper(lambda _: CalculatorMathEnv(env_config), num_threads=1)
    loop = RolloutLoop(
        engine=engine,
        env_stepper=stepper,
        tokenizer=tokenizer,
        sampling=Sampling(num_responses=1, max_tokens=400),
        max_turns=8,
        skip_special_tokens="template",
        sampling_seed=lambda *request: 0,
        tool_calls=ToolCallReader(tokenizer, "hermes"),
    )
    ids = prompt_token_ids(tokenizer, str(prompt), tools=info["tools"])
    try:
        [[response]] = loop.run([Prompt(seed=3, token_ids=ids, tools=info["tools"])])
    finally:
        stepper.close()

    assert response.is_correct
    assert response.reward == 1.0
    answers = [turn.observation for turn in response.turns]
    assert "division by zero" in answers[0]
    assert "cannot be read" in answers[1]
    assert answer in answers[2]

    # Whatever was asked for next begins with all that was sampled and read before.
    for before, after in zip(engine.requests, engine.requests[1:], strict=False):
        assert list(after.prompt_ids)[: len(before.prompt_ids)] == list(before.prompt_ids)
    trained = tokenizer.decode(response.token_ids[response.loss_mask])
    assert trained == "".join(f"{text}<eos>" for text in (*said, answer))
    assert json.loads(said[2].removeprefix("<tool_call>").removesuffix("</tool_call>"))
    assert tokenizer.decode(ids).startswith(f"<bos>{CALCULATOR['function']['name']}\n")
