"""Episodes of several turns: whether a template can go on, and whether it rewrites what was said.

What was sampled stays as it is, whatever a template would make of it later. So a template that
rewrites earlier turns is no obstacle, but a user should know of it: whoever renders a whole
conversation with the trained model, as chat servers do, has it read something else than it was
trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rllib_dapo.envs.messages import Message
from rllib_dapo.model_check.model_report import ModelFinding
from rllib_dapo.model_check.template_text import holds, known_part
from rllib_dapo.models import observation_token_ids
from rllib_dapo.models.control_tokens import template_source
from rllib_dapo.models.rendered_template import Piece, Slot, render_template
from rllib_dapo.models.thoughts import THOUGHT_MARKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OBSERVATION_TEXT: Final = "The result is 46.\nGo on"

_THOUGHT: Final = "qzthought"


def check_later_turns(tokenizer: PreTrainedTokenizerBase, *, is_needed: bool) -> ModelFinding:
    """Whether what stands between two responses holds the observation.

    Args:
        tokenizer: The model's tokenizer.
        is_needed: Whether episodes have several turns, so that a model that cannot is refused.
    """
    text = known_part(OBSERVATION_TEXT, tokenizer)
    try:
        ids = observation_token_ids(tokenizer, text, after=tokenizer.eos_token_id or 0)
        rendered = str(tokenizer.decode(ids))
    except Exception as error:  # a template may raise anything
        rendered = f"{type(error).__name__}: {error}"

    if holds(rendered, text):
        return ModelFinding(
            check="later turns", verdict="right", detail="an observation follows what was sampled"
        )
    return ModelFinding(
        check="later turns",
        verdict="refused" if is_needed else "note",
        detail=f"the template does not keep an observation ({rendered[:80]!r}): the model suits "
        "environments of one turn; set rollout.max_turns to 1, or mend chat_template",
    )


def check_earlier_turns(tokenizer: PreTrainedTokenizerBase) -> ModelFinding:
    """Whether the template writes earlier turns otherwise than they were sampled.

    Args:
        tokenizer: The model's tokenizer.
    """
    changes = "; ".join(_rewritten(tokenizer)) if tokenizer.chat_template else ""
    if not changes:
        return ModelFinding(
            check="earlier turns", verdict="right", detail="later turns leave them as they are"
        )
    return ModelFinding(
        check="earlier turns",
        verdict="note",
        detail=f"the template {changes}; in episodes of several turns, what was sampled stays as "
        "it is",
    )


def _rewritten(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """What the template changes of earlier turns, as the end of a sentence."""
    if _leaves_thoughts_out(tokenizer):
        yield "leaves out what was thought in earlier turns"

    system, user, assistant = (
        Message(role=role, content="-") for role in ("system", "user", "assistant")
    )
    for beginning in ((user,), (system, user)):
        prompt = _pieces(tokenizer, beginning)
        longer = _pieces(tokenizer, (*beginning, assistant, user))
        if not prompt or not longer:
            continue
        at = next(
            (
                place
                for place, piece in enumerate(longer)
                if isinstance(piece, Slot) and piece.index == len(beginning)
            ),
            0,
        )
        # White space that a template puts around a message is not told apart from the message's.
        if _text(longer[:at]).rstrip() != _text(prompt).rstrip():
            what = "the prompt" if len(beginning) == 1 else "a prompt with a system message"
            yield f"writes {what} otherwise once the model has answered"
            return


def _leaves_thoughts_out(tokenizer: PreTrainedTokenizerBase) -> bool:
    source = template_source(tokenizer)
    for opening, closing in THOUGHT_MARKS:
        if opening not in source and closing not in source:
            continue
        said = f"{opening}\n{_THOUGHT}\n{closing}\n\n-"
        conversation = [
            {"role": "user", "content": "-"},
            {"role": "assistant", "content": said},
            {"role": "user", "content": "-"},
        ]
        try:
            rendered = str(tokenizer.apply_chat_template(conversation, tokenize=False))
        except Exception:  # a template may raise anything; `check_later_turns` tells it
            return False
        if _THOUGHT not in rendered:
            return True
    return False


def _pieces(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Sequence[Piece]:
    try:
        return render_template(tokenizer, messages)
    except ValueError:  # it takes no system message, or no second question
        return ()


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece if isinstance(piece, str) else f"\0{piece.index}\0" for piece in pieces)
