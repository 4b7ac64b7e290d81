"""A network with all that changes it in training: optimizer, running mean, precision, frozen parts.

Its state is arrays alone, by names that do not depend on the process, so that a run can go on in another one.
Shapes: N videos, C classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from videotag.system.quiet_paddle import paddle

import numpy as np
import paddle.nn.functional as F
from paddle import Tensor, nn

from videotag.datasets.batches import Batch
from videotag.errors import ConfigError, DeviceError
from videotag.inference.evaluate import to_tensors
from videotag.inference.load_weights import network_state
from videotag.inference.parallel import world_size
from videotag.inference.tasks import task_loss, task_scores
from videotag.registry import LOGITS, Task
from videotag.safe_text import safe_repr
from videotag.sections import TrainSection
from videotag.training.feature_augment import augment, is_augmented
from videotag.training.gradients import sum_gradients
from videotag.training.losses import asymmetric_loss
from videotag.training.optim import build_optimizer, learning_rate

_RAW, _OPTIMIZER, _SCALER = "raw.", "optimizer.", "scaler."


class Learner:
    """Learns batch by batch.

    Args:
        model: the network; `freeze` and `lr_factors` of the section are applied to its parameters.
        train: the TRAIN section.
        task: chooses the loss.
        steps_per_epoch: for the learning rate.
        num_classes: C; needed to mix videos of a single-label task.
        teacher: of the same inputs and classes, learned from by `distill_weight`; its logits' probabilities
            are at `distill_temperature` already.

    Raises:
        ConfigError: a pattern fits no parameter, or all parameters are frozen.
        DeviceError: a precision that the device does not have.
    """

    def __init__(
        self,
        model: nn.Layer,
        train: TrainSection,
        task: Task,
        *,
        steps_per_epoch: int,
        num_classes: int = 0,
        teacher: nn.Layer | None = None,
    ) -> None:
        self.model = model
        self._num_classes = num_classes
        self._teacher = teacher
        self._train = train
        self._task = task
        self._steps_per_epoch = steps_per_epoch
        if train.precision != "fp32" and not paddle.get_device().startswith("gpu"):
            raise DeviceError(
                f"TRAIN.precision is {train.precision}, which a CPU does not compute in; set it to fp32"
            )
        _freeze(model, train.freeze)
        _scale_rates(model, train.lr_factors)
        self._optimizer = build_optimizer(model, train)
        enabled = train.precision == "fp16"  # bf16 has fp32's range and needs no scaling
        self._scaler = paddle.amp.GradScaler(enable=enabled, init_loss_scaling=2.0**15)
        self._mean = _copies(model) if train.ema_decay else {}

    def start_epoch(self) -> None:
        """Switches to training; layers that are frozen whole keep evaluating (batch norm's means stay)."""
        self.model.train()
        for layer in self.model.sublayers():
            own = layer.parameters(include_sublayers=False)
            if own and all(parameter.stop_gradient for parameter in own):
                layer.eval()

    def learn(self, batch: Batch | None, *, step: int, seed: int) -> tuple[Tensor, float] | None:
        """One step on one batch.

        Args:
            batch: of N videos; of several processes, this one's part of it, None if it has none.
            step: from 0 over all epochs.
            seed: of this step's dropout and augmentation, so that no random generator's state
                need be kept.

        Returns:
            The loss, of shape (), and the learning rate; None if no process has a video: nothing is learned.
        """
        paddle.seed(seed)
        rate = learning_rate(step, self._train, self._steps_per_epoch)
        self._optimizer.set_lr(rate)
        total = paddle.zeros([])
        num_videos = len(batch.ids) if batch else 0
        rng = np.random.default_rng(seed)
        for inputs, labels in self._parts(batch, rng) if batch else ():
            with self._precision():
                logits = self.model(inputs)[LOGITS]
            loss = self._loss(inputs, logits.astype("float32"), labels)
            if self._train.loss_reduction == "mean":
                loss = loss / num_videos
            self._scaler.scale(loss).backward()
            total = total + loss.detach()
        if world_size() > 1:
            total, all_videos = self._join_gradients(total, num_videos)
            if not num_videos and not all_videos.item():
                self._optimizer.clear_grad()
                return None
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.clear_grad()
        self._update_mean()
        return total, rate

    def _join_gradients(self, loss: Tensor, num_videos: int) -> tuple[Tensor, Tensor]:
        """Lets the gradients be those of all processes' videos; the loss over these, and their number."""
        is_mean = self._train.loss_reduction == "mean"
        weight = float(num_videos) if is_mean else 1.0
        parameters = self.model.parameters()
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad * weight
        extra = paddle.stack([loss * weight, paddle.to_tensor(float(num_videos))])
        total, all_videos = sum_gradients(parameters, extra)
        if not is_mean:
            return total, all_videos
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad / all_videos
        return total / all_videos, all_videos

    @contextlib.contextmanager
    def averaged(self) -> Iterator[nn.Layer]:
        """The network with the running mean as its parameters, if there is one, while the block lasts."""
        raw = _copies(self.model) if self._mean else {}
        _set(self.model, self._mean)
        try:
            yield self.model
        finally:
            _set(self.model, raw)

    def state(self) -> dict[str, np.ndarray]:
        """What goes beyond the weights of `averaged`: optimizer, loss scaling, and raw weights."""
        names = {parameter.name: name for name, parameter in self.model.named_parameters()}
        arrays = {
            f"{_OPTIMIZER}{_renamed(key, names)}": value.numpy()
            for key, value in self._optimizer.state_dict().items()
            if isinstance(value, Tensor)
        }
        arrays |= {_SCALER + key: np.asarray(value) for key, value in self._scaler.state_dict().items()}
        if self._mean:
            arrays |= {_RAW + name: value.numpy() for name, value in _copies(self.model).items()}
        return arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Sets what state() gave; the weights of `averaged` have been loaded into the network before."""
        if self._mean:
            self._mean = _copies(self.model)
            raw = {n.removeprefix(_RAW): a for n, a in arrays.items() if n.startswith(_RAW)}
            _set(self.model, {name: paddle.to_tensor(array.copy()) for name, array in raw.items()})
        names = {name: parameter.name for name, parameter in self.model.named_parameters()}
        optimizer = {
            _renamed(key.removeprefix(_OPTIMIZER), names): paddle.to_tensor(array.copy())
            for key, array in arrays.items()
            if key.startswith(_OPTIMIZER)
        }
        self._optimizer.set_state_dict(optimizer)
        scaler = {k.removeprefix(_SCALER): a for k, a in arrays.items() if k.startswith(_SCALER)}
        if scaler:
            current = self._scaler.state_dict()
            self._scaler.load_state_dict(
                {k: a if a.ndim else a.item() for k, a in scaler.items() if k in current}
            )

    def _parts(self, batch: Batch, rng: np.random.Generator) -> Iterator[tuple[Any, Tensor]]:
        """The network's arguments and the labels of every part; augmented before the batch is divided."""
        train, count = self._train, self._train.accumulate_steps
        if not is_augmented(train):
            for part in batch.parts(count):
                yield to_tensors(part.inputs, self.model.inputs), paddle.to_tensor(part.labels)
            return
        inputs = to_tensors(batch.inputs, self.model.inputs)
        labels = paddle.to_tensor(batch.labels)
        if self._task == "single_label" and train.mixup_alpha:
            labels = F.one_hot(labels, self._num_classes)
        inputs, labels = augment(inputs, labels, train=train, rng=rng)
        for part in Batch(batch.ids, inputs, labels).parts(count):
            yield part.inputs, part.labels

    def _loss(self, inputs: Any, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss summed over videos: of the labels and, if there is one, of what the teacher says."""
        train = self._train
        if train.loss == "asymmetric":
            loss = asymmetric_loss(logits, labels, gamma=train.asymmetric_gamma, clip=train.asymmetric_clip)
        else:
            loss = task_loss(self._task, logits, labels, "sum")
        if self._teacher is None:
            return loss
        with paddle.no_grad(), self._precision():
            taught = task_scores(self._task, self._teacher(inputs)[LOGITS].astype("float32"))
        weight, temperature = train.distill_weight, train.distill_temperature
        # Its gradients are smaller by the temperature's square, which is made good for (arXiv:1503.02531).
        distilled = temperature**2 * task_loss(self._task, logits / temperature, taught, "sum")
        return (1 - weight) * loss + weight * distilled

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self._train.precision == "fp32":
            return contextlib.nullcontext()
        dtype = {"fp16": "float16", "bf16": "bfloat16"}[self._train.precision]
        return paddle.amp.auto_cast(dtype=dtype)

    def _update_mean(self) -> None:
        decay = self._train.ema_decay
        if decay is None:
            return
        with paddle.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in self._mean:
                    self._mean[name] = decay * self._mean[name] + (1 - decay) * parameter


def _copies(model: nn.Layer) -> dict[str, Tensor]:
    """Of the parameters that train: a mean of equal numbers would round frozen ones."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if not p.stop_gradient}


def _set(model: nn.Layer, values: dict[str, Tensor]) -> None:
    state = network_state(model)
    for name, value in values.items():
        state[name].set_value(value)


def _renamed(key: str, names: dict[str, str]) -> str:
    """An optimizer's key, `PARAMETER_moment1_0`, with the parameter under its other name.

    Paddle numbers parameters as a process makes them, so that its own names fit no other process.
    """
    owner = max((name for name in names if key.startswith(f"{name}_")), key=len, default=None)
    return key if owner is None else names[owner] + key[len(owner) :]


def _matching(model: nn.Layer, pattern: str, key: str) -> list[Tensor]:
    """The parameters whose names fit a pattern."""
    names = dict(model.named_parameters())
    found = [parameter for name, parameter in names.items() if fnmatchcase(name, pattern)]
    if not found:
        examples = f"{next(iter(names))} ... {next(reversed(names))}"
        raise ConfigError(f"TRAIN.{key}: {safe_repr(pattern)} fits no parameter; their names are {examples}")
    return found


def _freeze(model: nn.Layer, patterns: list[str]) -> None:
    for pattern in patterns:
        for parameter in _matching(model, pattern, "freeze"):
            parameter.stop_gradient = True
    if all(parameter.stop_gradient for parameter in model.parameters()):
        raise ConfigError(f"TRAIN.freeze: {patterns} leave nothing to train; freeze less")


def _scale_rates(model: nn.Layer, factors: dict[str, float]) -> None:
    done: set[str] = set()
    for pattern, factor in factors.items():
        for parameter in _matching(model, pattern, "lr_factors"):
            if parameter.name not in done:
                parameter.optimize_attr = {"learning_rate": factor}
                done.add(parameter.name)
    if all(p.stop_gradient or not p.optimize_attr["learning_rate"] for p in model.parameters()):
        raise ConfigError(f"TRAIN.lr_factors: {factors} leave nothing to train; set one above 0")
