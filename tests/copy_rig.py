"""Kills smsbox before its n-th step on files; what stands on the disk then is what a crash leaves.

python copy_rig.py 3 --database ... restore copy.db --yes      # dies before the third step
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

STEPS = ("rename", "replace", "unlink", "remove", "link", "fsync", "chmod", "fchmod")


def wrap_steps(before: int) -> None:
    """Let the process die before its n-th call of any of the steps."""
    left = before

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **named)

        return step

    for name in STEPS:
        setattr(os, name, wrap(getattr(os, name)))


if __name__ == "__main__":
    wrap_steps(int(sys.argv[1]))  # before pathlib is imported: old ones keep the real functions
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

    import smsbox

    sys.exit(smsbox.main(sys.argv[2:]))
