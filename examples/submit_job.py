r"""Train on a Ray cluster that does not have this package: pack it, submit a job, follow its log.

    python examples/submit_job.py --address http://HEAD:8265 \
        tiny_arithmetic --storage /shared/ray_results

Arguments after the options of this script are those of `rllib-dapo train`: a preset or a run file,
and its options. The machines of the cluster need Ray, torch, transformers and vLLM, but not this
package, which travels with the job as its working directory. To pack only, and submit by hand:

    python examples/submit_job.py --pack build/job
    ray job submit --address http://HEAD:8265 --working-dir build/job -- \
        python -m rllib_dapo train tiny_arithmetic
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

import rllib_dapo
from rllib_dapo.run.layers import file_layers, merge_layers


def pack(folder: Path) -> None:
    """Copies the whole package into a folder, however it is installed here."""
    shutil.copytree(
        rllib_dapo.__path__[0],
        folder / "rllib_dapo",
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__"),
    )


def submit(address: str, folder: Path, arguments: list[str]) -> int:
    """Runs `ray job submit`, which follows the log until the job ends.

    Args:
        address: URL of the cluster's dashboard.
        folder: Folder with the packed package, to which a run file of this machine is added, in one
            piece with the files that it is based on.
        arguments: Arguments of `rllib-dapo train`.

    Returns:
        The exit status: 0 if the job succeeded.
    """
    run_file, *options = arguments
    if Path(run_file).is_file():
        run_file = take_along(Path(run_file), folder).name

    # The dashboard shows both.
    metadata = {"job_name": Path(run_file).stem, "options": " ".join(options)}

    ray = Path(sys.executable).with_name("ray")
    where = ["--address", address, "--working-dir", folder, "--metadata-json", json.dumps(metadata)]
    what = ["python", "-m", "rllib_dapo", "train", run_file, *options]
    command = [str(word) for word in (ray, "job", "submit", *where, "--", *what)]
    return subprocess.run(command, env=with_token(os.environ), check=False).returncode


def take_along(run_file: Path, folder: Path) -> Path:
    """Writes a run file into a folder, in one piece with the files that it is based on."""
    whole = merge_layers(file_layers(run_file))
    copy = folder / run_file.name
    copy.write_text(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return copy


def with_token(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Ray also shows its token to a cluster that is given by address."""
    has_token = (Path.home() / ".ray" / "auth_token").is_file()
    return ({"RAY_AUTH_MODE": "token"} if has_token else {}) | dict(environment)


def main() -> int:
    """Packs, and submits if that is wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--address", default="http://127.0.0.1:8265", help="URL of the cluster's dashboard"
    )
    parser.add_argument(
        "--pack", type=Path, metavar="DIR", help="only pack the package, into this folder"
    )
    options, arguments = parser.parse_known_args()

    if options.pack is not None:
        pack(options.pack)
        return 0
    if not arguments:
        parser.error("name a preset or a run file, and where all machines can write: --storage DIR")
    with tempfile.TemporaryDirectory() as folder:
        pack(Path(folder))
        return submit(options.address, Path(folder), arguments)


if __name__ == "__main__":
    sys.exit(main())
