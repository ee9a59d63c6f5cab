"""hubel: a workbench for convolutional networks.

`import hubel` is instant; torch is imported when one of the calls is first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Run", "UserError", "compare", "dock", "fit", "inspect", "load", "resume"]

if TYPE_CHECKING:
    from hubel.api import Run, compare, dock, fit, inspect, load, resume
    from hubel.errors import UserError


def __getattr__(name: str) -> Any:
    if name == "UserError":
        from hubel.errors import UserError

        return UserError
    if name in __all__:
        from hubel import api

        return getattr(api, name)
    raise AttributeError(f"module 'hubel' has no attribute '{name}'")
