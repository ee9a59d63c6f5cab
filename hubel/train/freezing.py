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
    while len(parts := _with_parameters(model)) == 1 and not list(model.parameters(recurse=False)):
        model = parts[0][1]
    if not parts:
        return [_stage("all", [model])]
    *body, (head_name, head) = parts
    groups: list[tuple[str, list[nn.Module]]] = []
    lists = [i for i, (_, part) in enumerate(body) if _is_list(part)]
    for i, (name, part) in enumerate(body):
        if _is_list(part):
            groups += [(f"{name}.{key}", [entry]) for key, entry in _with_parameters(part)]
        elif lists and i > lists[0]:  # a norm or a convolution that closes the last stage
            groups[-1][1].append(part)
        elif lists and i > 0:  # all that comes before the first list is the stem
            groups[-1][1].append(part)
        else:
            groups.append((name, [part]))
    layers = _with_parameters(head)
    if len(layers) > 1:
        key, last = layers[-1]
        groups.append((f"{head_name}.rest", [part for _, part in layers[:-1]]))
        groups.append((f"{head_name}.{key}", [last]))
    else:
        groups.append((head_name, [head]))
    stages = [_stage(name, modules) for name, modules in groups]
    placed = {parameter for stage in stages for parameter in stage.parameters}
    # What belongs to no child, such as a class token, goes in where the input does.
    loose = tuple(p for p in model.parameters() if p.requires_grad and p not in placed)
    stages[0] = Stage(stages[0].name, stages[0].modules, (*loose, *stages[0].parameters))
    return stages


def _with_parameters(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in module.named_children() if any(True for _ in m.parameters())]


def _is_list(module: nn.Module) -> bool:
    """Whether the entries are stages of their own: a list, or a sequence of whole blocks."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        return True
    parts = [part for _, part in _with_parameters(module)]
    return isinstance(module, nn.Sequential) and all(_with_parameters(part) for part in parts)


def _stage(name: str, modules: list[nn.Module]) -> Stage:
    parameters = dict.fromkeys(p for m in modules for p in m.parameters() if p.requires_grad)
    return Stage(name, tuple(modules), tuple(parameters))
