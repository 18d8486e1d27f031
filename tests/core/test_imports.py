from __future__ import annotations

import subprocess
import sys

# torch goes first: whatever it loads by itself is its own affair, what comes after is ours.
SCRIPT = """
import sys
import torch, torch.utils.checkpoint
for name in ("ray", "transformers", "vllm", "gymnasium", "pandas"):
    assert name not in sys.modules, f"torch has loaded {name}"
    sys.modules[name] = None
before = set(sys.modules)
import rllib_dapo.core
for name in rllib_dapo.core.__all__:
    getattr(rllib_dapo.core, name)
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(loaded - sys.stdlib_module_names - {"torch"}))
"""


def test_core_imports_with_torch_and_the_standard_library_alone() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=800
    )
    assert result.returncode == 0, result.stderr
    # The package itself is imported before `core`, and uses wrapt.
    assert result.stdout.strip() == "['rllib_dapo', 'wrapt']"
