"""The training loop: one, visible, for every task, device and number of dimensions."""

import math
from collections.abc import Callable

import torch
from torch import nn

from hubel.data.loader import Batch
from hubel.engine import Engine, out_of_memory
from hubel.errors import Interrupted, UserError
from hubel.inference import outputs
from hubel.models import Outputs
from hubel.train.best import prune_best, save_best
from hubel.train.checkpoint import load_checkpoint
from hubel.train.optimizers import set_rate
from hubel.train.training import Training, checkpoint, restore

__all__ = ["predicted", "train"]

_CHECK_EVERY = 16  # steps between looks at the loss: a look waits for the device
_MAX_ROLLBACKS = 3
_LOST = 3.0  # times the loss before training, as the mean of an epoch


def train(t: Training) -> None:
    """Train until the epochs or the budget are used up, from wherever `t.at` stands.

    Raises `Interrupted` after a signal, everything saved; `UserError` when the loss stays
    non-finite or the memory too small.
    """
    at, config = t.at, t.config
    started = t.clock() - at.elapsed_s
    last_saved = t.clock()
    t.profile.begin()
    while not at.finished:
        epoch_started = t.clock()
        samples_before = at.epoch_samples
        t.model.train()
        if t.freezing is not None:
            t.freezing.apply(at.epoch)
        # Sums of the epoch stay on the device: reading them would make it wait. What lies
        # behind is in the first process's: a sum over all processes has it once.
        wide = torch.float32 if t.engine.device.type == "mps" else torch.float64
        behind = (at.epoch_loss, at.epoch_right) if t.group.world.first else (0.0, 0.0)
        loss_sum, right_sum = torch.tensor(behind, dtype=wide, device=t.engine.device)
        done, diverged = 0.0, False

        for batch in t.loader.epoch(at.epoch, at.batch):
            t.profile.mark("data")
            # 1. The learning rate follows the share that is done, of steps or of time.
            done = _share_done(t)
            if done >= 1.0 and at.step > 0:  # at least one step, however short the budget
                break
            at.rate = set_rate(t.optimizer, t.schedule(done) * at.rate_scale)

            # 2. Forward and backward, in micro-batches if memory asks for it. Of several
            # processes each has a share of the batch, whose gradients are averaged.
            whole = batch.whole or len(batch)
            weight, counted = t.group.world.weights(len(batch), whole)
            least = t.group.world.least
            while True:
                draws = torch.get_rng_state()
                try:
                    batch_loss, batch_right = 0.0 * loss_sum, 0.0 * right_sum
                    for part in batch.split(at.accumulate, least(t.loader.largest), least(whole)):
                        input = part.input
                        if t.progressive is not None:
                            input = t.progressive(input, done)
                        with t.engine.autocast():
                            answer = Outputs.of(t.forward(t.engine.input(input)))
                        descended, loss = answer.losses(_loss_on(t, part))
                        t.profile.mark("forward")
                        t.scaler.scale(descended * (weight * len(part) / len(batch))).backward()
                        batch_loss += loss.detach() * (counted * len(part))  # the main head's
                        num_right = t.task.num_right(answer.output.detach(), part.target)
                        batch_right += counted * num_right
                        t.profile.mark("backward")
                    break
                except (RuntimeError, MemoryError, ValueError) as error:
                    t.optimizer.zero_grad()
                    _halve_micro_batch(t, error, t.loader.largest)
                    torch.set_rng_state(draws)

            # 3. The step of the optimizer, then of the slow and of the averaged weights.
            if config.clip_grad_norm > 0:
                t.scaler.unscale_(t.optimizer)
                nn.utils.clip_grad_norm_(t.model.parameters(), config.clip_grad_norm)
            t.scaler.step(t.optimizer)
            t.scaler.update()
            t.optimizer.zero_grad()
            if t.lookahead is not None:
                t.lookahead.after_step(at.step + 1, done)
            if t.average is not None:
                t.average.update_parameters(t.model)
            t.profile.mark("optimizer")

            # 4. Book-keeping; now and then a look at the loss, a checkpoint, a stop, on which
            # all processes agree.
            loss_sum += batch_loss
            right_sum += batch_right
            at.batch += 1
            at.step += 1
            at.samples += whole
            at.epoch_samples += whole
            at.elapsed_s, since_saved, signal = t.group.most(
                t.clock() - started, t.clock() - last_saved, t.stop.signal
            )
            if at.step % _CHECK_EVERY == 0:
                at.epoch_loss, at.epoch_right = t.group.total(loss_sum, right_sum)
                if not math.isfinite(at.epoch_loss):
                    diverged = True
                    break
                _report_step(t, t.clock() - epoch_started, samples_before)
            due = (
                0 < config.checkpoint_every < since_saved
                and at.batch < len(t.loader)  # the epoch's end saves anyway
            )
            if signal or due:
                at.epoch_loss, at.epoch_right = t.group.total(loss_sum, right_sum)
                if math.isfinite(at.epoch_loss) and _sound(t):
                    checkpoint(t, border=False)
                last_saved = t.clock()
                t.profile.mark("checkpoint")
            if signal:
                raise _interrupted(t, int(signal))
            t.profile.mark("other")

        at.epoch_loss, at.epoch_right = t.group.total(loss_sum, right_sum)
        if diverged or not math.isfinite(at.epoch_loss) or not _sound(t) or _lost(t):
            _roll_back(t)
            t.profile.mark("other")
            continue

        # 5. The epoch's end: validation without augmentation, the log, best so far, a checkpoint.
        if at.epoch_samples > 0:
            train_seconds = max(t.clock() - epoch_started, 1e-9)
            if t.lookahead is not None and max(done, _share_done(t)) >= 1.0:
                t.lookahead.finish(at.step)
            _end_epoch(t, (at.epoch_samples - samples_before) / train_seconds, started)
            t.profile.mark("evaluation")
        at.elapsed_s, signal = t.group.most(t.clock() - started, t.stop.signal)
        at.finished = (
            _share_done(t) >= 1.0
            or done >= 1.0
            or (config.patience > 0 and at.epoch - at.best_epoch >= config.patience)
        )
        checkpoint(t, border=True)
        prune_best(t.run)
        last_saved = t.clock()
        t.profile.mark("checkpoint")
        if signal and not at.finished:
            raise _interrupted(t, int(signal))


def _loss_on(t: Training, batch: Batch) -> Callable[[torch.Tensor], torch.Tensor]:
    """From the outputs of a head to its loss on `batch`."""
    return lambda output: t.task.loss(
        output,
        batch.target,
        label_smoothing=t.config.label_smoothing,
        class_weights=t.class_weights,
    )


def _sound(t: Training) -> bool:
    """Whether every weight is finite: the last step of an epoch shows in no loss."""
    state = t.model.state_dict().values()
    sound = all(bool(v.isfinite().all()) for v in state if v.is_floating_point())
    return t.group.most(float(not sound)) == [0.0]


def _lost(t: Training) -> bool:
    """Whether the epoch was far worse than knowing nothing, and than the untrained network: steps
    of bounded length (Adam's, Muon's) diverge without ever becoming infinite.
    """
    if t.at.epoch_samples == 0:
        return False
    loss = t.at.epoch_loss / t.at.epoch_samples
    if loss <= _LOST * t.task.untrained_loss(t.loader.num_classes):
        return False
    return bool(loss > _LOST * t.run.read_json("untrained.json")["loss"])


def _share_done(t: Training) -> float:
    """The share of the training that lies behind: of the budget, else of the epochs."""
    if t.at.limit_s is not None:
        return min(t.at.elapsed_s / max(t.at.limit_s, 1e-9), 1.0)
    return t.at.step / (t.config.epochs * len(t.loader))


def _end_epoch(t: Training, speed: float, started: float) -> None:
    """Validate, write the log's line, keep the weights if they are the best so far."""
    at = t.at
    validation_started = t.clock()
    t.group.share_buffers(t.model, t.average)
    output, target, _ = predicted(t, t.evaluated, t.engine)
    metrics = t.task.metrics(output, target)
    score = metrics[t.task.score]
    at.epoch += 1
    loss = metrics["loss"]
    # On a small validation split scores are often equal: then the smaller loss is better.
    better = score > at.best_score or (score == at.best_score and loss < at.best_loss)
    if better and math.isfinite(loss):
        at.best_score, at.best_loss, at.best_epoch = score, loss, at.epoch
        at.best = f"r{at.rollbacks:02d}-epoch-{at.epoch:06d}"
        save_best(t.run, t.evaluated, at.best, score)
    row = {
        "epoch": at.epoch,
        "step": at.step,
        "train_loss": at.epoch_loss / at.epoch_samples,
        f"train_{t.task.running}": at.epoch_right / at.epoch_samples,
        "val_loss": loss if math.isfinite(loss) else None,
        f"val_{t.task.score}": score,
        "lr": at.rate,
        "images_per_s": speed,
        "seconds": t.clock() - started,
        "validation_s": t.clock() - validation_started,
    }
    t.run.append_log(row)
    t.report({"row": row})
    at.batch, at.epoch_samples, at.epoch_loss, at.epoch_right = 0, 0, 0.0, 0.0


def predicted(
    t: Training, model: nn.Module, engine: Engine, orientation: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the task keeps of outputs (n, …) and targets (n, …), and the ids (n,), of the
    validation split, in its order: each process predicts its share, and each gets all. Poses are
    seen in one `orientation` of `Loader.evaluation`.
    """
    output, target, ids = outputs(model, t.validation.evaluation(orientation), engine, t.task.kept)
    output, target, ids = t.group.gathered(len(t.validation.indices), output, target, ids)
    return output, target, ids


def _report_step(t: Training, epoch_s: float, samples_before: int) -> None:
    at = t.at
    done = _share_done(t)
    t.report(
        {
            "epoch": at.epoch + 1,
            "done": done,
            "loss": at.epoch_loss / at.epoch_samples,
            "running": t.task.running,
            "share": at.epoch_right / at.epoch_samples,
            "lr": at.rate,
            "images_per_s": (at.epoch_samples - samples_before) / max(epoch_s, 1e-9),
            "left_s": at.elapsed_s * (1 - done) / max(done, 1e-9),
        }
    )


def _interrupted(t: Training, signal: int) -> Interrupted:
    return Interrupted(
        f"stopped in epoch {t.at.epoch + 1}, everything is saved; "
        f"go on with: hubel fit --resume {t.run.path}",
        128 + signal,
    )


def _halve_micro_batch(t: Training, error: Exception, batch: int) -> None:
    """After too little memory: the same batch in twice as many parts. Re-raises other errors."""
    if "more than 1 value per channel when training" in str(error):
        raise UserError(
            f"--model '{t.config.model}' averages in training over what the samples of a batch "
            f"have in each channel, and here that is one value: --batch-size "
            f"{t.config.batch_size} in {t.at.accumulate} parts, of {len(t.loader.indices)} "
            f"training samples; give larger batches, fewer parts (--accumulate) or a larger "
            f"--img-size"
        ) from None
    if not out_of_memory(error):
        raise error
    if not t.group.alone:
        raise UserError(
            f"the memory of {t.engine.device} is too small for this process's share of a batch; "
            f"cut it by --accumulate {2 * t.at.accumulate}"
        ) from None
    if t.at.accumulate >= batch:
        raise UserError(
            f"the memory of {t.engine.device} is too small for one sample of this network; "
            f"choose a smaller --img-size or network"
        ) from None
    t.at.accumulate *= 2
    if t.engine.device.type == "cuda":
        torch.cuda.empty_cache()
    t.report(
        {
            "note": f"out of memory: each batch of {batch} now goes in {t.at.accumulate} parts "
            f"(same step; batch norm sees the parts)"
        }
    )


def _roll_back(t: Training) -> None:
    """Back to the last epoch's end with half the rate; give up after a few times."""
    at = t.at
    epoch, rollbacks, scale = at.epoch + 1, at.rollbacks + 1, at.rate_scale / 2
    elapsed_s, accumulate = at.elapsed_s, at.accumulate
    if rollbacks > _MAX_ROLLBACKS:
        raise UserError(
            f"the training diverged in epoch {epoch}, and again after {_MAX_ROLLBACKS} "
            f"roll-backs with halved rates; give a smaller --lr (or --clip-grad-norm 1)"
        )
    loss = at.epoch_loss / max(at.epoch_samples, 1)
    shown = f"{loss:.3g}" if math.isfinite(loss) else "not finite"
    found = load_checkpoint(t.run, border=True)
    assert found is not None  # noqa: S101 — the first checkpoint is written before the first step
    restore(t, found[0])
    at.rollbacks, at.rate_scale = rollbacks, scale
    at.elapsed_s, at.accumulate = elapsed_s, accumulate  # time and memory do not come back
    t.run.keep_log(at.epoch)
    checkpoint(t, border=True)
    t.report(
        {
            "note": f"the training diverged in epoch {epoch} (mean loss {shown}): rolled back to "
            f"the end of epoch {at.epoch}, the learning rate is now {scale:g} of what was asked"
        }
    )
