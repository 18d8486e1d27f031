from rllib_dapo.envs.schema import Columns, Schema, check_columns, detect_schema, find_schema


def test_columns_are_chosen_in_a_fixed_order() -> None:
    assert detect_schema(["solution", "answer", "prompt", "question", "idx"]) == Schema(
        prompt=("question",), answer=("answer",), identity="idx"
    )
    assert detect_schema(["instruction", "input", "output"]) is None


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
