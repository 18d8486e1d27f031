"""What a row costs: its tokens' way through the projections, and attention between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RowWork:
    """Estimated work of rows; the unit is one token's way through the layers' projections.

    Attributes:
        per_pair: Work of one query and one key that attention compares, in all layers.
        per_response: Work of the output projection for one response token.
        takes_blocks: Whether attention leaves out what responses of a row do not see of each other.
            With a dense mask it compares all pairs of a shared row.
    """

    per_pair: float = 0.0
    per_response: float = 0.0
    takes_blocks: bool = False

    def pairs(self, prompt_tokens: int, responses: Sequence[int]) -> float:
        """`P²/2 + Σ_i T_i (P + T_i / 2)`, or `S²` with a dense mask: pairs of query and key.

        Windows are not counted: where they are in effect, kernels with a mask compare all pairs.

        Args:
            prompt_tokens: Length `P` of the prompt, in tokens.
            responses: Lengths `T_i` of the responses of a row of `S` tokens.

        Source: Kaplan et al. 2020 (arXiv 2001.08361, Section 2.1), without what a causal kernel
            leaves out.
        """
        if len(responses) > 1 and not self.takes_blocks:
            return float(prompt_tokens + sum(responses)) ** 2
        of_responses = sum(n * (prompt_tokens + n / 2) for n in responses)
        return prompt_tokens**2 / 2 + of_responses


TOKENS_ALONE = RowWork()
