import pytest

from rllib_dapo.envs.schema import Columns, Schema, check_columns, detect_schema, find_schema


def test_columns_are_chosen_in_a_fixed_order() -> None:
    assert detect_schema(["solution", "answer", "prompt", "question", "idx"]) == Schema(
        prompt=("question",), answer=("answer",), identity="idx"
    )
    assert detect_schema(["text", "label"]) is None


def test_the_recipes_files_are_told_by_their_nested_truth() -> None:
    assert detect_schema(["answer", "extra_info", "prompt", "reward_model"]) == Schema(
        prompt=("prompt",), answer=("reward_model.ground_truth",), identity="extra_info.index"
    )


def test_what_the_user_names_wins_and_the_rest_is_told() -> None:
    columns = check_columns({"question": ["a", "b"]})
    assert columns == Columns(question=("a", "b"))
    assert find_schema(
        "here", ["a", "b", "question", "answer", "id"], columns, need_answers=True
    ) == Schema(prompt=("a", "b"), answer=("answer",), identity="id")


def test_no_answer_is_needed_where_none_is_asked_for() -> None:
    assert find_schema("here", ["prompt"], Columns(), need_answers=False) == Schema(
        prompt=("prompt",), answer=()
    )


def test_names_are_compared_without_capitals_spaces_and_hyphens() -> None:
    assert detect_schema(["Question", "Final Answer", "ID"]) == Schema(
        prompt=("Question",), answer=("Final Answer",), identity="ID"
    )
    assert detect_schema(["Question", "question", "answer"]) == Schema(
        prompt=("question",), answer=("answer",)
    )


def test_alpacas_and_conversations_columns_are_known() -> None:
    assert detect_schema(["instruction", "input", "output"]) == Schema(
        prompt=("instruction", "input"), answer=("output",), optional=("input",)
    )
    assert detect_schema(["conversations", "system", "answer"]) == Schema(
        prompt=("conversations",), answer=("answer",), system="system"
    )
    # Alone, a column of this name may be anything.
    assert detect_schema(["question", "system", "answer"]) == Schema(
        prompt=("question",), answer=("answer",)
    )


def test_a_column_that_is_nearly_empty_is_not_preferred() -> None:
    rows = [{"question": None, "prompt": "Q", "answer": "", "solution": "1"}] * 9
    rows.append({"question": "Q", "prompt": "Q", "answer": "1", "solution": "1"})
    assert find_schema("here", rows[0], Columns(), need_answers=True, sample=rows) == Schema(
        prompt=("prompt",), answer=("solution",)
    )


@pytest.mark.parametrize("names", [["question", "answer", "answer"], ["id", "id", "q", "answer"]])
def test_a_column_that_is_there_twice_is_refused_where_it_is_needed(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^here: the column '(answer|id)' is there twice; rename"):
        find_schema("here", names, Columns(question=(names[0],)), need_answers=True)


def test_a_column_that_is_there_twice_and_not_read_does_no_harm() -> None:
    schema = find_schema("here", ["x", "x", "question", "answer"], Columns(), need_answers=True)
    assert schema.unused == ("x",)
