import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_dapo.envs import Problem, Verdict
from rllib_dapo.envs.adapters.reward_sources import make_reward

PROBLEM = Problem(prompt="What is 1+1?", answer="2", problem_id="d/0")


def judged(reward: Any, response: str = "It is 2, therefore.", **settings: Any) -> Verdict:
    return make_reward(reward, **settings)(PROBLEM, response)


def length(prompt: str, response: str) -> float:
    return len(response) / len(prompt)


def right(prompt: str, response: str, answer: str) -> bool:
    return answer in response


def test_a_function_is_given_prompt_and_response() -> None:
    verdict = judged(length, "123456")
    assert verdict == Verdict(is_correct=None, reward=0.5, components={"length": 0.5})


def test_a_function_of_three_is_given_the_answer_too() -> None:
    assert judged(right) == Verdict(is_correct=True, reward=1.0, components={"right": 1.0})
    assert judged(right, "3") == Verdict(is_correct=False, reward=-1.0, components={"right": -1.0})


def test_a_function_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(
        "def short(prompt, response):\n    return -len(response)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert judged("my_rewards:short", "123").reward == -3.0


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "1", [1.0]])
def test_a_function_that_returns_no_number_gives_no_verdict(value: Any) -> None:
    verdict = judged(lambda prompt, response: value)
    assert (verdict.is_correct, verdict.reward) == (None, None)
    assert verdict.reason.startswith(f"crash: the function returned {value!r}")


def test_numpys_numbers_are_numbers() -> None:
    assert judged(lambda p, r: np.float32(0.5)).reward == 0.5
    assert judged(lambda p, r: np.bool_(True)).is_correct is True


def test_a_weighted_sum_keeps_every_component_by_name() -> None:
    reward = {
        "right": {"rule": "last_number"},
        "polite": {"regex": "please|thank", "weight": 0.5},
        "reasons": {"keywords": ["Therefore", "because"], "weight": -2},
        "length": {"function": length, "weight": 0.1},
    }
    verdict = judged(reward, "because it is 2")
    values = {"right": 1.0, "polite": 0.0, "reasons": 0.5, "length": 15 / 12}
    assert dict(verdict.components) == values
    assert verdict.reward == pytest.approx(1.0 + 0.0 - 1.0 + 0.125)
    assert verdict.is_correct is True
    assert verdict.prediction == "2"


def test_the_first_component_that_knows_correct_from_wrong_decides_unless_the_sum_does() -> None:
    parts = {
        "format": {"regex": "^It"},
        "rule": {"rule": "last_number"},
        "own": {"function": right},
    }
    assert judged(parts, "It is 22").is_correct is False
    assert judged(parts, "It is 22", success_at=0.5).is_correct is True
    assert judged(parts, "It is 22", success_at=1.5).is_correct is False
    assert judged({"format": {"regex": "^It"}}).is_correct is None


def test_a_component_without_a_verdict_leaves_none_at_all() -> None:
    verdict = judged({"a": {"regex": "x"}, "b": lambda p, r: None, "c": lambda p, r: math.nan})
    assert (verdict.is_correct, verdict.reward) == (None, None)
    assert (
        verdict.reason
        == "crash: the function returned None (b); crash: the function returned nan (c)"
    )
    assert verdict.components["a"] == 0.0
    assert math.isnan(verdict.components["b"])


def test_a_format_may_span_lines_and_is_searched_in_a_bounded_part() -> None:
    pattern = {"format": {"regex": r"<think>.*</think>\s*\d+$"}}
    assert judged(pattern, "<think>a\nb</think> 2").reward == 1.0
    assert judged(pattern, "<think>" + "a" * 30_000 + "</think> 2").reward == 0.0


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (None, "^reward=None: must be a function,"),
        ({}, r"^reward=\{\}: must be a function,"),
        (5, "^reward=5: must be a function,"),
        ("score", r"^reward='score': must be written package\.module:name"),
        ("random:score", "^reward='random:score': module random has no 'score'"),
        (
            {"a": {"weight": 1}},
            r"^reward\.a=.*: must have exactly one of rule, function, code, regex, keywords",
        ),
        ({"a": {"rule": "strict", "regex": "x"}}, r"^reward\.a=.*: must have exactly one of"),
        (
            {"a": {"rule": "strikt"}},
            r"^reward\.a\.rule='strikt': must be one of .*; did you mean 'strict'",
        ),
        (
            {"a": {"rule": "strict", "wait": 1}},
            r"^reward\.a: the option='wait': must be one of weight",
        ),
        ({"a": {"rule": "strict", "weight": "1"}}, r"^reward\.a\.weight='1': must be a number"),
        ({"a": {"regex": "("}}, r"^reward\.a\.regex='\(': is not a regular expression"),
        ({"a": {"regex": 5}}, r"^reward\.a\.regex=5: is not a regular expression"),
        ({"a": {"keywords": "x"}}, r"^reward\.a\.keywords='x': must be a list of texts"),
        ({"a": {"keywords": []}}, r"^reward\.a\.keywords=\[\]: must be a list of texts"),
        ({"a": {"function": 3}}, r"^reward\.a\.function=3: must be a function"),
        (
            {"a": {"classifier": "/nowhere"}},
            r"^reward\.a\.classifier='/nowhere': must be a model's folder",
        ),
    ],
)
def test_what_is_no_reward_is_refused_by_its_name(reward: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_reward(reward)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reward", "needs_process"),
    [
        (length, True),
        ({"a": {"regex": "x"}, "b": {"rule": "strict"}}, False),
        ({"a": {"regex": "x"}, "b": {"rule": "math-verify"}}, True),
    ],
)
def test_what_may_hang_belongs_into_a_process(reward: Any, needs_process: bool) -> None:
    assert make_reward(reward).needs_process is needs_process


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Folders of classifiers made on the spot, by their numbers of outputs."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = {
        word: i
        for i, word in enumerate(["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz", *"0123456789"])
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    folders = {}
    for outputs in (1, 3):
        torch.manual_seed(outputs)
        size = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        }
        model = BertForSequenceClassification(
            BertConfig(vocab_size=len(words), num_labels=outputs, **size)
        )
        folders[outputs] = str(tmp_path_factory.mktemp(f"classifier{outputs}"))
        model.save_pretrained(folders[outputs])
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(
            folders[outputs]
        )
    return folders


def test_a_reward_models_one_output_is_the_reward(classifiers: dict[int, str]) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(classifiers[1])
    model = AutoModelForSequenceClassification.from_pretrained(classifiers[1]).eval()
    with torch.no_grad():
        expected = model(**tokenizer(PROBLEM.prompt, "two", return_tensors="pt")).logits.item()
    verdict = judged({"style": {"classifier": classifiers[1], "weight": 2}}, "two")
    assert verdict.components["style"] == pytest.approx(expected, abs=1e-6)
    assert verdict.reward == pytest.approx(2 * expected, abs=1e-6)
    assert verdict.is_correct is None


def test_of_several_outputs_the_labels_probability_is_the_reward(
    classifiers: dict[int, str],
) -> None:
    def probability(label: Any) -> float:
        reward = judged({"style": {"classifier": classifiers[3], "label": label}}, "two").reward
        assert reward is not None
        return reward

    assert sum(probability(label) for label in range(3)) == pytest.approx(1.0)
    assert probability("LABEL_1") == probability(1)
    with pytest.raises(
        ValueError,
        match="label='good': must be one of LABEL_0, LABEL_1, LABEL_2, or a number below 3",
    ):
        probability("good")


def test_a_classifier_reads_no_more_than_it_is_told_to(classifiers: dict[int, str]) -> None:
    def rated(response: str) -> float | None:
        return judged({"style": {"classifier": classifiers[1], "max_tokens": 5}}, response).reward

    assert rated("y" * 100 + "abcde") == rated("x" * 2_000 + "abcde") != rated("edcba")


def test_a_classifier_stays_in_this_process(classifiers: dict[int, str]) -> None:
    assert make_reward({"a": {"classifier": classifiers[1]}, "b": length}).needs_process is False
