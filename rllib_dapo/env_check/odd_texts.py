"""Texts that break parsers: what a model may write, sooner or later."""

ODD_TEXTS = (
    "",
    " \n\t\r\n ",
    "\0",
    "\ud800",  # half of a character, which UTF-8 cannot encode
    "x" * 100_000,
    "9" * 10_000,
    "9^{9^{9^9}} 9**9**9**9 1e999999999 (10!)!",
    "Answer: Answer: Answer:",
    r"\boxed{\boxed{\frac{1}{",
    "}" * 500 + "{" * 500 + "(" * 500,
    "{} {0} {x} %s %(x)s %n ${HOME} $(ls) `ls`",
    "__import__('os').getcwd()",
    "[[[[1, 2], {'a': None}], float('nan')]]",
    "\u202eright to left\u202c \u0645\u0631\u062d\u0628\u0627 \U0001f600\U0001f9d1\u200d\U0001f680",
    "NaN inf -inf -0.0 1/0 0x1F 1_000 ½ ² ５",
    "<answer></answer><answer>1</answer></think>",
    "a,b;c|d\te\\n'\"",
    "Answer: 1\nI take that back.\n" * 50,
)
