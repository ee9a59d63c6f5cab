"""Which stages of a network learn, and how fast: freezing, unfreezing, rates by depth.

The stages are in the order in which the input passes them: the stem, the entries of the
network's lists of stages or blocks, the head; a head of several layers is two, so that its
last layer can learn alone. What is frozen is a function of the epoch and nothing else, so a
resumed or rolled-back training freezes what an uninterrupted one does.
"""

from dataclasses import dataclass

from torch import nn

from hubel.config import FitConfig
from hubel.errors import UserError

__all__ = ["Freezing", "Stage", "make_freezing", "stages_of"]


@dataclass(frozen=True)
class Stage:
    """Neighbouring modules, and those of their parameters that train if nobody freezes them."""

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]


@dataclass(frozen=True)
class Freezing:
    """The first `first` of `stages` are frozen, one fewer every `every` epochs (0 = never)."""

    stages: tuple[Stage, ...]
    first: int
    every: int

    def count(self, epoch: int) -> int:
        """How many stages are frozen in `epoch` (from 0)."""
        return self.first if self.every == 0 else max(self.first - epoch // self.every, 0)

    def apply(self, epoch: int) -> None:
        """Freeze what is frozen in `epoch`; call it after `model.train()`.

        A frozen stage gets no gradient and works as in evaluation: batch norm keeps its
        statistics and does not gather new ones, nothing is dropped.
        """
        if self.first == 0:
            return
        frozen = self.count(epoch)
        for i, stage in enumerate(self.stages):
            for parameter in stage.parameters:
                parameter.requires_grad_(i >= frozen)
            if i < frozen:
                for module in stage.modules:
                    module.eval()

    def never_train(self) -> set[nn.Parameter]:
        """The parameters that no epoch will train: the optimizer need not know them."""
        frozen = self.stages[: self.first] if self.every == 0 else ()
        return {parameter for stage in frozen for parameter in stage.parameters}

    def sentence(self) -> str:
        """For the terminal; "" where nothing is frozen."""
        if self.first == 0:
            return ""
        names = [stage.name for stage in self.stages]
        which = names[0] if self.first == 1 else f"{names[0]} to {names[self.first - 1]}"
        text = f"frozen: {self.first} of {len(names)} stages ({which})"
        if self.every:
            epochs = "every epoch" if self.every == 1 else f"every {self.every} epochs"
            text += f", one fewer {epochs}"
        return text


def make_freezing(model: nn.Module, config: FitConfig) -> Freezing:
    """What `config` asks for. Raises `UserError` where nothing would be left to learn."""
    stages = stages_of(model)
    head = stages[-1].name.partition(".")[0]
    if config.freeze == "all":
        first = len(stages) - 1
    elif config.freeze == "backbone":
        first = sum(stage.name.partition(".")[0] != head for stage in stages)
    else:
        first = int(config.freeze or 0)
    if first >= len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise UserError(
            f"--freeze {config.freeze} leaves nothing of '{config.model}' to learn, its "
            f"{len(stages)} stages are {names}; give at most {len(stages) - 1}"
        )
    if config.unfreeze_epochs and not first:
        raise UserError(
            f"--unfreeze-epochs {config.unfreeze_epochs} has nothing to unfreeze; give --freeze "
            f"all, backbone or a number of stages too"
        )
    return Freezing(tuple(stages), first, config.unfreeze_epochs)


def stages_of(model: nn.Module) -> list[Stage]:
    """The stages of any network in the order of their definition; every parameter is in one."""
    while len(parts := _parts(model)) == 1 and not list(model.parameters(recurse=False)):
        model = parts[0].module
    if not parts:
        return [_stage("all", [model])]
    *body, head = parts
    groups: list[tuple[str, list[nn.Module]]] = []
    lists = [i for i, part in enumerate(body) if _is_list(part.module)]
    for i, part in enumerate(body):
        if _is_list(part.module):
            entries = _parts(part.module)
            groups += [(f"{part.name}.{entry.name}", entry.all) for entry in entries]
            groups[-len(entries)][1].extend(part.company)
        elif lists and i > lists[0]:  # a norm or a convolution that closes the last stage
            groups[-1][1].extend(part.all)
        elif lists and i > 0:  # all that comes before the first list is the stem
            groups[-1][1].extend(part.all)
        else:
            groups.append((part.name, part.all))
    layers = _parts(head.module)
    if len(layers) > 1:
        *rest, last = layers
        before = [*head.company, *(module for part in rest for module in part.all)]
        groups.append((f"{head.name}.rest", before))
        groups.append((f"{head.name}.{last.name}", last.all))
    else:
        groups.append((head.name, head.all))
    stages = [_stage(name, modules) for name, modules in groups]
    placed = {parameter for stage in stages for parameter in stage.parameters}
    # What belongs to no child, such as a class token, goes in where the input does.
    loose = tuple(p for p in model.parameters() if p.requires_grad and p not in placed)
    stages[0] = Stage(stages[0].name, stages[0].modules, (*loose, *stages[0].parameters))
    return stages


@dataclass(frozen=True)
class _Part:
    """A child that has parameters, and the neighbours without any that freeze with it."""

    name: str
    module: nn.Module
    company: list[nn.Module]

    @property
    def all(self) -> list[nn.Module]:
        return [self.module, *self.company]


def _parts(module: nn.Module) -> list[_Part]:
    """The children that have parameters, in the order of their definition.

    With each goes what gathers statistics after it, such as a batch norm without scale and
    shift; and in a sequence, where the order of use is known, the dropout before it, which acts
    on its input. Elsewhere a dropout may act anywhere: it never freezes.
    """
    found: list[_Part] = []
    waiting: list[nn.Module] = []
    for name, child in module.named_children():
        if any(True for _ in child.parameters()):
            found.append(_Part(name, child, waiting))
            waiting = []
        elif found and any(True for _ in child.buffers()):
            found[-1].company.append(child)
        elif isinstance(module, nn.Sequential):
            waiting.append(child)
    return found


def _is_list(module: nn.Module) -> bool:
    """Whether the entries are stages of their own: a list, or a sequence of whole blocks."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        return True
    return isinstance(module, nn.Sequential) and all(_parts(part.module) for part in _parts(module))


def _stage(name: str, modules: list[nn.Module]) -> Stage:
    parameters = dict.fromkeys(p for m in modules for p in m.parameters() if p.requires_grad)
    return Stage(name, tuple(modules), tuple(parameters))
