"""Text from outside as text that every tokenizer takes."""

from __future__ import annotations

from dataclasses import replace

from rllib_dapo.envs.messages import Conversation

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def well_formed(text: str) -> str:
    r"""Returns a text in which what is not a character is replaced by U+FFFD.

    Those are lone surrogates, which JSON can spell (`\ud800`) and no tokenizer takes, and the
    character NUL, which ends a text for whatever is written in C. A text without any is returned
    itself, so `is` tells whether something was replaced.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        # A pair of surrogates that was spelt in two halves is one character after this.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", REPLACEMENT) if "\0" in text else text


def well_formed_prompt(prompt: str | Conversation) -> str | Conversation:
    """Does what `well_formed` does to each message; a prompt without fault is returned itself."""
    if isinstance(prompt, str):
        return well_formed(prompt)
    mended = tuple(
        message
        if (content := well_formed(message.content)) is message.content
        else replace(message, content=content)
        for message in prompt
    )
    return prompt if all(a is b for a, b in zip(prompt, mended, strict=True)) else mended
