"""The packages of the extra `docking`, imported when they are first needed."""

import importlib
from typing import Any

from hubel.errors import UserError

__all__ = ["extra"]


def extra(module: str, purpose: str) -> Any:
    """The module of that name. Raises `UserError` with the install line where it is missing.

    >>> extra("math", "counting").floor(2.5)
    2
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise UserError(
            f"{purpose} needs {package}, which is not installed: pip install 'hubel[docking]'"
        ) from None
