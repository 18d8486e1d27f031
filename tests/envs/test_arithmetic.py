import math
from itertools import pairwise
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.envs.arithmetic import ArithmeticEnv, evaluate, write_expression


def short(value: Any) -> str:
    """Names a test after the beginning of a text that may be very long."""
    return ascii(value)[:30]


@pytest.mark.parametrize(
    ("operands", "operations", "expression", "value"),
    [
        ((12, 57), "+", "12+57", 69),
        ((12, 57), "-", "12-57", -45),
        ((12, 57), "*", "12*57", 684),
        ((2, 3, 4), "+*", "2+3*4", 14),
        ((2, 3, 4), "*+", "2*3+4", 10),
        ((20, 3, 4), "-*", "20-3*4", 8),
        ((20, 3, 4), "--", "20-3-4", 13),
        ((20, 3, 4, 5), "-*+", "20-3*4+5", 13),
        ((2, 3, 4, 5), "***", "2*3*4*5", 120),
        ((0, 0), "-", "0-0", 0),
        ((10**18 - 1, 10**18 - 1), "*", f"{10**18 - 1}*{10**18 - 1}", (10**18 - 1) ** 2),
    ],
)
def test_expressions_are_worth_what_a_hand_works_out(
    operands: tuple[int, ...], operations: str, expression: str, value: Any
) -> None:
    assert write_expression(operands, operations) == expression
    assert evaluate(operands, operations) == value


@given(st.lists(st.integers(0, 99), min_size=2, max_size=8), st.data())
def test_precedence_is_pythons(operands: tuple[int, ...], data: st.DataObject) -> None:
    operations = "".join(data.draw(st.sampled_from("+-*")) for _ in operands[1:])
    # The text is digits and three signs of our own making, never a model's.
    assert evaluate(operands, operations) == eval(write_expression(operands, operations))


def test_it_passes_gymnasiums_checks() -> None:
    check_env(gymnasium.make("rllib_dapo/Arithmetic-v0", operations="+-*", terms=4).unwrapped)


def test_making_it_by_its_id_wraps_it_in_nothing() -> None:
    assert type(gymnasium.make("rllib_dapo/Arithmetic-v0")) is ArithmeticEnv


def test_an_episode_ends_with_plus_or_minus_one() -> None:
    env = ArithmeticEnv()
    prompt, info = env.reset(seed=11)
    left, right = prompt.rstrip("=").split("+")
    assert info == {"problem_id": prompt.rstrip("="), "answer": str(int(left) + int(right))}
    assert env.step(info["answer"])[1] == 1.0
    env.reset(seed=11)
    assert env.step(info["answer"] + "0")[1] == -1.0


@pytest.mark.parametrize(
    "config", [{}, {"operations": "+-*", "terms": 5, "digits": 3}, {"split": "heldout"}]
)
def test_the_problem_of_a_seed_is_the_same_whatever_came_before(config: dict[str, Any]) -> None:
    env = ArithmeticEnv(config)
    forward = [env.reset(seed=s)[0] for s in range(60)]
    assert [env.reset(seed=s)[0] for s in reversed(range(60))] == forward[::-1]
    assert [ArithmeticEnv(config).problem(s).prompt for s in range(60)] == forward
    assert len(set(forward)) > 50


def test_the_dataset_seed_chooses_another_stream() -> None:
    streams = {tuple(ArithmeticEnv(seed=s).problem(i).prompt for i in range(20)) for s in range(3)}
    assert len(streams) == 3


def test_operands_and_operations_are_the_ones_asked_for() -> None:
    env = ArithmeticEnv(operations=["-", "*"], max_operand=7, terms=3)
    texts = [env.problem(s).problem_id for s in range(500)]
    numbers = [int(n) for text in texts for n in text.replace("*", "-").split("-")]
    assert set(numbers) == set(range(8))
    assert len(numbers) == 1_500
    assert {c for text in texts for c in text if not c.isdigit()} == {"-", "*"}


def test_digits_bound_the_operands() -> None:
    env = ArithmeticEnv(digits=3)
    numbers = [int(n) for s in range(500) for n in env.problem(s).problem_id.split("+")]
    assert 900 < max(numbers) <= 999
    assert min(numbers) < 50


def test_the_largest_operands_can_be_drawn_and_scored() -> None:
    env = ArithmeticEnv(operations="*", digits=18, terms=16)
    env.reset(seed=0)
    assert env.step(env.problem(0).answer)[1] == 1.0


def test_the_template_is_the_prompt() -> None:
    env = ArithmeticEnv(template="What is {expression}? Write {{}}.")
    assert env.problem(0).prompt == f"What is {env.problem(0).problem_id}? Write {{}}."


def test_a_wordy_model_can_be_scored_by_its_last_number() -> None:
    env = ArithmeticEnv(answer_rule="last_number")
    _, info = env.reset(seed=0)
    assert env.step(f"That makes {info['answer']}.")[4]["is_correct"]


@settings(max_examples=20)
@given(
    st.sampled_from(["+", "-", "*", "+-*"]),
    st.integers(2, 4),
    st.integers(0, 9),
    st.integers(0, 9),
    st.floats(0.05, 0.95),
)
def test_train_and_heldout_never_overlap_whatever_the_seeds(
    operations: str, terms: int, one: int, two: int, fraction: float
) -> None:
    common = {
        "operations": operations,
        "terms": terms,
        "heldout_fraction": fraction,
        "max_operand": 20,
    }
    train = ArithmeticEnv(common, split="train", seed=one)
    heldout = ArithmeticEnv(common, split="heldout", seed=two)
    assert not {train.problem(s).prompt for s in range(200)} & {
        heldout.problem(s).prompt for s in range(200)
    }


def test_a_sum_is_not_learnt_from_its_mirror_image() -> None:
    train, heldout = ArithmeticEnv(max_operand=9), ArithmeticEnv(max_operand=9, split="heldout")
    seen = {train.problem(s).problem_id for s in range(2_000)}
    asked = {heldout.problem(s).problem_id for s in range(200)}
    assert len(seen | asked) == 100
    assert not seen & {"+".join(reversed(text.split("+"))) for text in asked}


def test_a_tiny_share_is_still_drawn_from_evenly() -> None:
    env = ArithmeticEnv(digits=2, split="heldout", heldout_fraction=0.005)
    drawn = [env.problem(s).problem_id for s in range(60)]
    assert max(drawn.count(text) for text in drawn) < 15


@pytest.mark.parametrize(
    "response",
    ["69", " 69\n", "\t69", "+69", "069", "0" * 60 + "69", "69" + " " * 100_000, "\u2003" + "69"],
    ids=short,
)
def test_the_number_alone_is_right_in_any_white_space(response: str) -> None:
    env = ArithmeticEnv()
    problem = env.problem(0)
    assert env.score(problem, response.replace("69", problem.answer)).is_correct


@pytest.mark.parametrize(
    "response",
    [
        "",
        " ",
        "70",
        "-69",
        "69.0",
        "69.",
        "6 9",
        "69 69",
        "=69",
        "sixty-nine",
        "6_9",
        "６９",
        "69\x00",
        "\u202e96",
        "0x45",
        "6.9e1",
        "69" * 50_000,
        "9" * 100_000,
        "0" * 70 + "69",
        "9**9**9",
        "__import__('os')",
        "{" * 1_000,
        "😀" * 1_000,
    ],
    ids=short,
)
def test_anything_else_is_wrong(response: str) -> None:
    env = ArithmeticEnv(operations="+")
    problem = env.problem(0)
    verdict = env.score(type(problem)(prompt="12+57=", answer="69", problem_id="12+57"), response)
    assert verdict.is_correct is False
    assert len(verdict.prediction) <= 64


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"operations": "/"}, r"^operations='/': must be a text or list made of \+ - \*"),
        ({"operations": ""}, "^operations='': must be"),
        ({"operations": ["+-"]}, r"^operations=\['\+-'\]: must be"),
        ({"operations": 5}, "^operations=5: must be"),
        ({"digits": 0}, "^digits=0: must be from 1 to 18$"),
        ({"digits": "2"}, "^digits='2': must be a whole number"),
        ({"terms": 1}, "^terms=1: must be from 2 to 16$"),
        ({"max_operand": 0}, "^max_operand=0: must be from 1 to"),
        ({"seed": -1}, "^seed=-1: must be at least 0$"),
        ({"split": "test"}, "^split='test': must be one of train, heldout"),
        ({"heldout_fraction": 2}, "^heldout_fraction=2: must be a number from 0 to 1$"),
        (
            {"template": "{expr}"},
            r"^template='\{expr\}': must be a text with the field \{expression\}",
        ),
        (
            {"answer_rule": "stict"},
            "^answer_rule='stict': must be one of strict, .*; did you mean 'strict'",
        ),
        ({"digit": 3}, "unknown setting 'digit'.*did you mean 'digits'"),
        (
            {"split": "heldout", "heldout_fraction": 0},
            "^split='heldout': none of the first 10000 of 10000 expressions",
        ),
        (
            {"heldout_fraction": 1},
            "^split='train': none .* change heldout_fraction, or make more expressions",
        ),
        (
            {"max_operand": 1, "heldout_fraction": 1e-9, "split": "heldout"},
            "none of the first 4 of 4 expressions",
        ),
    ],
)
def test_settings_out_of_bounds_are_refused_in_one_clear_line(
    config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ArithmeticEnv(config)
    assert "\n" not in str(caught.value)


def test_an_empty_split_of_a_huge_space_is_refused_soon() -> None:
    with pytest.raises(ValueError, match="none of the first 50000 of"):
        ArithmeticEnv(digits=18, split="heldout", heldout_fraction=0.0)


def test_answers_come_as_plain_text_and_problems_by_name() -> None:
    problem = ArithmeticEnv(operations="-").problem(3)
    assert problem.prompt == f"{problem.problem_id}="
    assert math.isfinite(int(problem.answer))


def test_operations_may_repeat_without_counting_twice() -> None:
    one, two = ArithmeticEnv(operations="+-"), ArithmeticEnv(operations="++-+")
    assert all(one.problem(s) == two.problem(s) for s in range(20))
    assert all(a != b for a, b in pairwise(one.problem(s) for s in range(20)))
