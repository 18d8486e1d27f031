"""A package as verifiers 0.1 had them."""

import verifiers as vf


def load_environment(**kwargs: object) -> "vf.Environment":
    return vf.SingleTurnEnv(**kwargs)
