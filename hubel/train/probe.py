"""A few steps of the real network in each way to compute them: how long, and how wrong.

The first candidate is the plain one, float32 in contiguous order: its outputs and gradients
are what the others' are compared with, and its time is what theirs are a multiple of. A
candidate more than half as slow again as the best is left after one step.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn

from hubel.data.loader import Batch
from hubel.engine import Engine, Forward
from hubel.models import Outputs
from hubel.train.optimizers import use_precision

__all__ = [
    "Bench",
    "Distance",
    "Evidence",
    "Measured",
    "Trial",
    "compare",
    "measure",
    "set_fused",
    "undisturbed",
]

_ROUNDS = 3  # further steps of those that are near the best, in turn
_PRUNE = 1.5  # times the best step: slower ones are not measured again
_TINY = 1e-30
_LOSS_SCALE = 1024.0  # of fp16: lifts small gradients over its smallest number

_NOISE = {"tf32": 2.0**-12, "fp16": 2.0**-12, "bf16": 2.0**-9}
"""By how much of itself one rounding to the type moves a number, at most."""
_ALLOWED = 0.05  # distance that another order of sums may bring: 0.03 seen in float32
_TENSOR_ALLOWED = 0.8  # for one tensor, which may be no more than rounding itself
_AMPLIFIED = 4.0  # times what rounding input and weights alone brings: below 3 seen in bf16


@dataclass(frozen=True)
class Evidence:
    """What one forward and backward gave: `output` (n, …) and the gradient of each parameter
    that has one, float32.
    """

    output: torch.Tensor
    gradients: list[torch.Tensor]


class Trial(Protocol):
    """What `measure` needs of the network at work."""

    def evidence(self, engine: Engine, noise: float = 0.0) -> Evidence:
        """One forward and backward by `engine`, from the same weights every time.

        With `noise`, input and weights are off by up to that share of themselves.
        """
        ...

    def step_s(self, engine: Engine) -> float:
        """The seconds of one whole step by `engine`."""
        ...


@dataclass
class Measured:
    """One candidate: its times, its distances from the reference, what became of it.

    `verdict` is "" until it is known, then "fastest", "slower", "wrong: …", "failed: …" or
    "not measured: …". Distances are None where there was nothing to compare.
    """

    engine: Engine
    times: list[float] = field(default_factory=list)
    output_error: float | None = None
    gradient_error: float | None = None
    verdict: str = ""

    @property
    def step(self) -> float:
        """The shortest step: what disturbs a measurement only ever lengthens it."""
        return min(self.times, default=math.inf)

    def to_json(self, samples: int) -> dict[str, Any]:
        """JSON-ready; a step had `samples` samples."""
        return {
            "engine": self.engine.words,
            "step_s": self.step if self.times else None,
            "images_per_s": round(samples / self.step, 1) if self.times else None,
            "steps": len(self.times),
            "output_error": _finite(self.output_error),
            "gradient_error": _finite(self.gradient_error),
            "verdict": self.verdict,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Distance:
    """How far some evidence lies from the reference, as shares of the reference's own length.

    Attributes
    ----------
    output, gradient: of all outputs and of the whole gradient.
    tensors: of each parameter's gradient; one that is much shorter than the mean (a bias
        before a batch norm has none but rounding) counts with a tenth of the mean length.
    """

    output: float
    gradient: float
    tensors: list[float]

    @classmethod
    def between(cls, found: Evidence, reference: Evidence) -> "Distance":
        """From two pieces of evidence with the same tensors."""
        count = sum(g.numel() for g in reference.gradients)
        total = math.sqrt(sum(_length(g) ** 2 for g in reference.gradients))
        off = [
            float((a - b).norm()) for a, b in zip(found.gradients, reference.gradients, strict=True)
        ]
        floors = [0.1 * total * math.sqrt(g.numel() / count) for g in reference.gradients]
        return cls(
            float((found.output - reference.output).norm()) / _length(reference.output),
            math.sqrt(sum(d * d for d in off)) / max(total, _TINY),
            [
                d / max(_length(g), floor, _TINY)
                for d, g, floor in zip(off, reference.gradients, floors, strict=True)
            ],
        )


def compare(
    found: Evidence, reference: Evidence, rounded: Distance | None
) -> tuple[float, float, str]:
    """Distances of outputs and gradient, and what is wrong with them ("" for nothing).

    How far is too far depends on the network: the gradient of a deep one may turn round when
    its input is rounded once. `rounded` is what rounding input and weights alone brings, in
    float32; a few times as much is arithmetic, more is an error.
    """
    if not all(bool(v.isfinite().all()) for v in (found.output, *found.gradients)):
        return math.inf, math.inf, "wrong: values that are not finite"
    if len(found.gradients) != len(reference.gradients):
        return math.inf, math.inf, "wrong: some parameters got no gradient"
    off = Distance.between(found, reference)
    rounded = rounded or Distance(0.0, 0.0, [0.0] * len(off.tensors))
    pairs = [
        ("outputs", off.output, _ALLOWED + _AMPLIFIED * rounded.output),
        ("gradients", off.gradient, _ALLOWED + _AMPLIFIED * rounded.gradient),
        *(
            ("one tensor's gradients", mine, _TENSOR_ALLOWED + _AMPLIFIED * noise)
            for mine, noise in zip(off.tensors, rounded.tensors, strict=True)
        ),
    ]
    for what, error, limit in pairs:
        if not error <= limit:  # not a number, too
            verdict = f"wrong: {what} are off by {error:.2g} of their length, {limit:.2g} at most"
            return off.output, off.gradient, verdict
    return off.output, off.gradient, ""


def _length(tensor: torch.Tensor) -> float:
    return max(float(tensor.norm()), _TINY)


def measure(
    trial: Trial,
    candidates: Sequence[Engine],
    allowed_s: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Measured]:
    """Every candidate's times and distances; the first one is the reference.

    Nothing is begun that would not be over after `allowed_s`, as far as the longest turn so
    far tells; the first candidate always has its turn, and without it nobody has one.
    """
    end, longest = clock() + allowed_s, 0.0
    reference: Evidence | None = None
    plain = candidates[0]
    rows = [Measured(engine) for engine in candidates]
    rounded: dict[str, Distance] = {}
    for row in rows:
        turn = clock()
        if rows[0].verdict:
            row.verdict = "not measured: nothing to compare with"
            continue
        if turn + longest > end and row is not rows[0]:
            row.verdict = "not measured: the time for it was up"
            continue
        try:
            evidence = trial.evidence(row.engine)
            if reference is None:
                reference = evidence
            precision = row.engine.precision
            if precision in _NOISE and precision not in rounded:
                noisy = trial.evidence(plain, _NOISE[precision])
                rounded[precision] = Distance.between(noisy, reference)
            row.output_error, row.gradient_error, row.verdict = compare(
                evidence, reference, rounded.get(precision)
            )
            if not row.verdict:
                best = min((r.step for r in rows if r.times and not r.verdict), default=math.inf)
                row.times.append(trial.step_s(row.engine))
                if row.step > best:  # kernels are made in a first step: it alone tells nothing
                    row.times.append(trial.step_s(row.engine))
        except Exception as error:
            row.verdict = _failed(error)
        longest = max(longest, clock() - turn)
    for _ in range(_ROUNDS):
        best = min((row.step for row in rows if not row.verdict), default=math.inf)
        for row in rows:
            if row.verdict or row.step > _PRUNE * best or clock() + row.step > end:
                continue
            try:
                row.times.append(trial.step_s(row.engine))
            except Exception as error:
                row.verdict = _failed(error)
    return rows


def _failed(error: Exception) -> str:
    """Whatever a backend or a compiler raises is a verdict on it, not the end of a fit."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"failed: {words[:200]}"


class Bench:
    """A `Trial` on the network and optimizer themselves, which are as before at its end.

    A copy would double the memory, and an optimizer need not be one that can be copied. `loss`
    takes outputs and targets; `batch` may be changed between measurements.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        batch: Batch,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.loss = loss
        self.batch = batch
        self.engine: Engine | None = None
        self.forward: Forward = model
        self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self._state = dict(optimizer.state)
        self._modes = {module: module.training for module in model.modules()}
        self._compiled: dict[tuple[Engine, tuple[int, ...]], Forward] = {}

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *exception: object) -> None:
        self._reset()
        self.optimizer.state.update(self._state)
        self._set_modes(self._modes)

    def _reset(self) -> None:
        self.optimizer.zero_grad()
        self.optimizer.state.clear()
        self.model.load_state_dict(self.weights)

    def _set_modes(self, modes: dict[nn.Module, bool]) -> None:
        for module, training in modes.items():
            module.training = training

    def _use(self, engine: Engine) -> None:
        """Place everything as `engine` wants it, with the first weights and no state."""
        if engine == self.engine:
            return
        self.engine = engine
        self._reset()
        engine.place(self.model)
        set_fused(self.optimizer, fused=engine.fused)
        use_precision(self.optimizer, engine.precision)
        kind = engine, tuple(self.batch.input.shape)
        if kind not in self._compiled:
            self._compiled[kind] = engine.forward_of(self.model, kind[1])
        self.forward = self._compiled[kind]

    def _forward_backward(self, engine: Engine) -> tuple[torch.Tensor, float]:
        scale = _LOSS_SCALE if engine.precision == "fp16" else 1.0
        with engine.autocast():
            answer = Outputs.of(self.forward(engine.input(self.batch.input)))
        loss, _ = answer.losses(lambda output: self.loss(output, self.batch.target))
        (loss * scale).backward()
        return answer.output, scale

    def evidence(self, engine: Engine, noise: float = 0.0) -> Evidence:
        """Outputs and gradients in training mode, with nothing dropped at random."""
        self.engine = None  # from the weights themselves, whatever was measured before
        self._use(engine)
        batch = self.batch
        modes = {module: module.training for module in self.model.modules()}
        try:
            if noise:
                with torch.no_grad():
                    for parameter in self.model.parameters():
                        parameter.mul_(_near_one(parameter, noise))
                self.batch = replace(batch, input=batch.input * _near_one(batch.input, noise))
            for module in modes:
                # Dropout and its kin have no parameters; batch norm has, and stays in training.
                if not any(True for _ in module.children()) and not module.state_dict():
                    module.training = False
            with engine.products():
                output, scale = self._forward_backward(engine)
            kept = Evidence(
                output.detach().float().clone(),
                [
                    p.grad.detach().float() / scale
                    for p in self.model.parameters()
                    if p.grad is not None
                ],
            )
        finally:
            self._set_modes(modes)
            self.optimizer.zero_grad()
            self.batch = batch
            self.engine = None  # with noise, or after an error, the weights are not the first
        if not noise:
            self.engine = engine
        return kept

    def step_s(self, engine: Engine) -> float:
        """Forward, backward and the optimizer's step, in seconds."""
        self._use(engine)
        with engine.products():
            _wait(engine.device)
            begun = time.perf_counter()
            self._forward_backward(engine)
            self.optimizer.step()
            self.optimizer.zero_grad()
            _wait(engine.device)
        return time.perf_counter() - begun


def _near_one(tensor: torch.Tensor, noise: float) -> torch.Tensor:
    return 1 + noise * (2 * torch.rand_like(tensor) - 1)


def set_fused(optimizer: torch.optim.Optimizer, *, fused: bool) -> None:
    """One kernel for the step or several, in the groups that know the difference."""
    for group in optimizer.param_groups:
        if group.get("fused") is not None:
            group["fused"] = fused


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Keep the random streams of CPU and `device` as they are."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
