"""What rows of a model cost: the coefficients of `core.RowWork`, counted in the model itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rllib_dapo.core import RowWork
from rllib_dapo.learner.row_masks import takes_blocks
from rllib_dapo.models import chosen_experts, is_of_expert, whole_shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What attention's arithmetic costs beside as much arithmetic in a projection: scores are
# exponentials too, and their products are narrow. Measured with PyTorch's SDPA, 9 heads of 64 and
# rows of 768 tokens, forward and backward on two CPU cores: 1.8 in float32 and 2.4 in bfloat16.
ATTENTION_FACTOR = 2.0


def work_of(lm: PreTrainedModel) -> RowWork:
    """`per_pair = f 4 L h d / 2 N`, `per_response = (8 / 6) V H / N`, in projections of a token.

    `N` counts the weights that a token is multiplied with in the layers, `L` layers, `h` heads of
    size `d`; `V` and `H` are the sizes of the output projection, which is computed a second time in
    the backward pass. `f` is `ATTENTION_FACTOR`.

    Args:
        lm: The language model; its weights may be sharded.

    Source: Kaplan et al. 2020 (arXiv 2001.08361, Section 2.1).
    """
    config = lm.config.get_text_config()
    chosen, of = chosen_experts(config.to_dict())
    head, table = lm.get_output_embeddings(), lm.get_input_embeddings()
    outside = {id(module.weight) for module in (head, table) if module is not None}

    weights = {id(p): (name, p) for name, p in lm.named_parameters() if id(p) not in outside}
    active = sum(
        math.prod(whole_shape(p)) * (chosen / of if of and is_of_expert(name) else 1.0)
        for name, p in weights.values()
    )
    words = 0 if head is None else math.prod(whole_shape(head.weight))
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    size = getattr(config, "head_dim", None) or config.hidden_size // max(1, heads)
    pair = ATTENTION_FACTOR * 4 * config.num_hidden_layers * heads * size

    return RowWork(
        per_pair=pair / (2 * max(1, active)),
        per_response=8 / 6 * words / max(1, active),
        takes_blocks=takes_blocks(config),
    )
