"""Records of `rllib-dapo sft` made of problems: what training asks, with the file's own answers."""

from __future__ import annotations

import json
from pathlib import Path

from rllib_dapo.envs.messages import as_conversation
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.rollout.make_environment import make_environment
from rllib_dapo.run.run_settings import read_settings
from rllib_dapo.warm_start.records import RecordFile, SFTRecord


def answer_records(file: Path, like: Path) -> RecordFile:
    """Poses the problems of a file as a run does, each once, and takes the answers as responses.

    A split of the run file is heeded: what it holds out is not learnt.

    Args:
        file: The problems, as the setting `path` of `Math-v0` takes them.
        like: A run file, whose environment is taken.

    Raises:
        SettingsError: If the run file is refused, its environment has no problems of a file, or one
            of them has no answer; one line.
    """
    if not file.is_file():
        raise SettingsError(f"FILE {file}: there is no such file")
    path = json.dumps(str(file), ensure_ascii=False)
    config = read_settings(like, [f"environment.env_config.path={path}"]).config
    try:
        env = make_environment(config.env, config.env_config)
    except (ValueError, OSError) as error:
        raise SettingsError(f"FILE {file}: {one_line(error)}") from error

    records = []
    try:
        problems = getattr(env.unwrapped, "problems", None)
        if problems is None:
            raise SettingsError(f"--like {like}: its environment has no problems of a file")
        for seed in range(len(problems)):
            prompt, info = env.reset(seed=seed)
            if not info.get("answer"):
                raise SettingsError(
                    f"FILE {file}: {info.get('problem_id', seed)} has no answer to be learnt"
                )
            records.append(
                SFTRecord(
                    place=str(info.get("problem_id", seed)),
                    prompt=as_conversation(prompt),
                    turns=(str(info["answer"]),),
                )
            )
    finally:
        env.close()
    return RecordFile(records=tuple(records), unused=())
