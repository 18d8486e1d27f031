"""Writes the reference of the Python interface, from docstrings, with pdoc.

    python tools/api_pages.py [FOLDER]     # default: build/api; open index.html there

`make docs` runs this. What is documented is what programs of a user's import: the package's own
names, and the rooms that stand alone. A warning of pdoc's, such as a name that does not resolve,
ends the command with an error.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pdoc

import rllib_dapo

REPO = Path(__file__).resolve().parents[1]
FOLDER = REPO / "build" / "api"
# Parts of the package, as dotted names behind `rllib_dapo`.
DOCUMENTED = (
    "algorithm",
    "config.dapo_config",
    "core",
    "env_check.check_environment",
    "env_check.environment_finding",
    "envs",
    "metrics",
    "models.model_names",
    "reporting.demo_picture",
    "run.preset_files",
    "run.quiet_python",
    "run.run_file",
    "run.run_settings",
    "run.search.joint_space",
    "run.search.stoppers",
    "run.shared_engines",
)


def specifications() -> list[str]:
    """The modules that are documented, as pdoc takes them: with those inside of them.

    Where a package lists its names in `__all__`, pdoc shows these on its page and goes no further.
    """
    root = rllib_dapo.__name__
    return [root, *(f"{root}.{part}" for part in DOCUMENTED)]


def write(folder: Path) -> None:
    """Writes the pages.

    Args:
        folder: Where; made if it is not there.

    Raises:
        Warning: For the first thing that pdoc warns of.
    """
    for name in rllib_dapo.__all__:
        getattr(rllib_dapo, name)  # loaded when it is first used

    pdoc.render.configure(
        docformat="google",
        footer_text=f"{rllib_dapo.__name__}, arXiv 2503.14476",
        search=True,
        show_source=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of libraries that are imported on the way.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        # Of a NamedTuple, whose constructor does not know which module its annotations are from.
        warnings.filterwarnings("ignore", "Error parsing type annotation ForwardRef", UserWarning)
        pdoc.pdoc(*specifications(), output_directory=folder)


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    write(place)
    sys.stdout.write(f"{place / 'index.html'}\n")
