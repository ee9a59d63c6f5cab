"""A network by its name: one of hubel's architectures, or one from outside."""

from hubel.external_models import external, is_external
from hubel.models import Model, ModelSpec, build, resolve

__all__ = ["network_of"]


def network_of(spec: ModelSpec) -> tuple[ModelSpec, Model]:
    """`spec` with its stem decided, and the network, freshly initialised.

    Call this with a name that the person gave: `file.py:NAME` is executed.
    """
    if is_external(spec.name):
        return spec, external(spec)
    resolved = resolve(spec)
    return resolved, build(resolved)
