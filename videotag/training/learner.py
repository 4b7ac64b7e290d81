"""Training steps of one network: loss, optimizer, mixed precision, averaged weights and frozen layers.

Its state consists of named arrays only. The names do not depend on the process, so that a run can resume in
another one.
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
from paddle.utils import unique_name

from videotag.datasets.batches import Batch
from videotag.errors import ConfigError, DeviceError, PluginError
from videotag.inference.evaluate import to_tensors
from videotag.inference.load_weights import network_state
from videotag.inference.parallel import world_size
from videotag.inference.tasks import task_loss, task_scores
from videotag.models.contract import check_outputs
from videotag.registry import LOGITS, Task
from videotag.safe_text import safe_repr
from videotag.train_section import TrainSection
from videotag.training.feature_augment import augment, check_mixable, has_augmentation
from videotag.training.gradients import sum_gradients
from videotag.training.losses import TrainingLoss
from videotag.training.optim import build_optimizer, learning_rate

_RAW, _OPTIMIZER, _SCALER = "raw.", "optimizer.", "scaler."
_FROZEN = "frozen"  # 1 until the end of freeze_epochs, then 0
_BATCH_NORMS = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm)


class Learner:
    """Trains a network batch by batch.

    Args:
        model: Network; `freeze` and `lr_factors` of the section are applied to its parameters.
        train: TRAIN section.
        task: Task, which selects the loss.
        steps_per_epoch: Number of steps per epoch, for the learning rate schedule.
        num_classes: Number of classes C.
        class_counts: (C,) number of training samples with each class; needed for class_weights and
            logit_adjustment.
        teacher: Teacher network for distillation, with the same inputs and classes, whose logits are already
            divided by `distill_temperature`; None for none.

    Raises:
        ConfigError: A pattern matches no parameter, no parameter is left to train, there is no batch norm to
            freeze, or an input cannot be mixed.
        DeviceError: The device does not support the precision.
    """

    def __init__(
        self,
        model: nn.Layer,
        train: TrainSection,
        task: Task,
        *,
        steps_per_epoch: int,
        num_classes: int,
        class_counts: np.ndarray | None = None,
        teacher: nn.Layer | None = None,
    ) -> None:
        self.model = model
        self._num_classes = num_classes
        self._teacher = teacher
        self._train = train
        self._task = task
        self._label_loss = TrainingLoss(train, task, class_counts)
        self._steps_per_epoch = steps_per_epoch
        if train.precision != "fp32" and not paddle.get_device().startswith("gpu"):
            raise DeviceError(
                f"TRAIN.precision is {train.precision}, which needs a GPU; set it to fp32 on a CPU"
            )
        check_mixable(train, model.inputs)
        self._frozen = freeze(model, train.freeze)
        self._frozen_steps = None if train.freeze_epochs is None else train.freeze_epochs * steps_per_epoch
        if train.freeze_norms and not any(isinstance(layer, _BATCH_NORMS) for layer in model.sublayers()):
            raise ConfigError("TRAIN.freeze_norms: the model has no batch norm; leave it out")
        _set_lr_factors(model, train.lr_factors)
        self._optimizer = build_optimizer(model, train)
        enabled = train.precision == "fp16"  # bf16 has the range of fp32 and needs no scaling
        self._scaler = paddle.amp.GradScaler(enable=enabled, init_loss_scaling=2.0**15)
        self._ema = _trainable_copies(model) if train.ema_decay else {}

    def start_epoch(self) -> None:
        """Switches to training mode, except for frozen norms and layers without trainable parameters."""
        self.model.train()
        for layer in self.model.sublayers():
            own = layer.parameters(include_sublayers=False)
            is_frozen = own and all(parameter.stop_gradient for parameter in own)
            if is_frozen or (self._train.freeze_norms and isinstance(layer, _BATCH_NORMS)):
                layer.eval()

    def unfreeze(self) -> None:
        """Trains the parameters of TRAIN.freeze from now on; the optimizer's state starts anew."""
        for parameter in self._frozen:
            parameter.stop_gradient = False
        self._frozen = []
        # A new optimizer, as Paddle's do not restore the state of a part of their parameters.
        self._optimizer = build_optimizer(self.model, self._train)
        if self._ema:
            self._ema = _trainable_copies(self.model) | self._ema
        self.start_epoch()

    def learn(
        self, batch: Batch | None, *, step: int, seed: int, rate: float | None = None
    ) -> tuple[Tensor, float] | None:
        """Performs one optimizer step.

        Args:
            batch: Batch of N videos, or this process's part of it; None if it has none.
            step: Index of the step over all epochs, from 0.
            seed: Seed of dropout and augmentation in this step; checkpoints therefore need no generator
                state.
            rate: Learning rate; None for that of the schedule.

        Returns:
            Scalar loss and learning rate; None if no process has a video, in which case no step is made.

        Raises:
            PluginError: The network's outputs are not those that it declares.
        """
        if batch is None and world_size() == 1:
            return None
        if self._frozen and self._frozen_steps is not None and step >= self._frozen_steps:
            self.unfreeze()
        paddle.seed(seed)
        if rate is None:
            rate = learning_rate(step, self._train, self._steps_per_epoch)
        self._optimizer.set_lr(rate)
        total = paddle.zeros([])
        num_videos = len(batch.ids) if batch else 0
        rng = np.random.default_rng(seed)
        for inputs, labels in self._parts(batch, rng) if batch else ():
            with self._autocast():
                logits = self._logits(inputs, num_samples=len(labels))
            loss = self._loss(inputs, logits.astype("float32"), labels)
            if self._train.loss_reduction == "mean":
                loss = loss / num_videos
            self._scaler.scale(loss).backward()
            total = total + loss.detach()
        if world_size() > 1:
            total, all_videos = self._reduce_gradients(total, num_videos)
            if not num_videos and not all_videos.item():
                self._optimizer.clear_grad()
                return None
        with unique_name.guard():  # the state's names count the optimizers of a parameter in a process
            self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.clear_grad()
        self._update_ema()
        return total, rate

    def _reduce_gradients(self, loss: Tensor, num_videos: int) -> tuple[Tensor, Tensor]:
        """Sums gradients over the processes; returns loss and number of all videos, both scalar."""
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
        """Context in which the network has its averaged parameters, if ema_decay is set."""
        raw = _trainable_copies(self.model) if self._ema else {}
        _assign(self.model, self._ema)
        try:
            yield self.model
        finally:
            _assign(self.model, raw)

    def state(self) -> dict[str, np.ndarray]:
        """The state besides the weights of `averaged`: optimizer, loss scaling and raw weights.

        Returns:
            Arrays by name, of the shape of their parameter or scalar.
        """
        names = {parameter.name: name for name, parameter in self.model.named_parameters()}
        arrays = {
            f"{_OPTIMIZER}{_rename_parameter(key, names)}": value.numpy()
            for key, value in self._optimizer.state_dict().items()
            if isinstance(value, Tensor)
        }
        arrays |= {_SCALER + key: np.asarray(value) for key, value in self._scaler.state_dict().items()}
        if self._frozen_steps is not None:
            arrays[_FROZEN] = np.asarray(int(bool(self._frozen)))
        if self._ema:
            arrays |= {_RAW + name: value.numpy() for name, value in _trainable_copies(self.model).items()}
        return arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restores the result of state(); the weights of `averaged` must be loaded into the network first.

        Args:
            arrays: Arrays by name, of the shape of their parameter or scalar.
        """
        if self._frozen_steps is not None and not arrays[_FROZEN]:
            self.unfreeze()
        if self._ema:
            self._ema = _trainable_copies(self.model)
            raw = {n.removeprefix(_RAW): a for n, a in arrays.items() if n.startswith(_RAW)}
            _assign(self.model, {name: paddle.to_tensor(array.copy()) for name, array in raw.items()})
        names = {name: parameter.name for name, parameter in self.model.named_parameters()}
        optimizer = {
            _rename_parameter(key.removeprefix(_OPTIMIZER), names): paddle.to_tensor(array.copy())
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
        """Inputs and labels of every part of the batch, which is augmented before it is split."""
        train, count = self._train, self._train.accumulate_steps
        if not has_augmentation(train):
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

    def _logits(self, inputs: Any, *, num_samples: int) -> Tensor:
        outputs = self.model(inputs)
        check_outputs(
            outputs,
            self.model.outputs,
            returned_by=type(self.model).__name__,
            num_samples=num_samples,
            num_classes=self._num_classes,
        )
        logits: Tensor = outputs[LOGITS]
        if logits.stop_gradient:
            raise PluginError(
                f"{type(self.model).__name__}.forward returned {LOGITS} without a gradient; do not detach"
            )
        return logits

    def _loss(self, inputs: Any, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss summed over videos, including distillation if there is a teacher."""
        train = self._train
        loss = self._label_loss(logits, labels)
        if self._teacher is None:
            return loss
        with paddle.no_grad(), self._autocast():
            taught = task_scores(self._task, self._teacher(inputs)[LOGITS].astype("float32"))
        weight, temperature = train.distill_weight, train.distill_temperature
        # The factor offsets the gradients' scale of 1 / temperature^2 (arXiv:1503.02531).
        distilled = temperature**2 * task_loss(self._task, logits / temperature, taught, "sum")
        return (1 - weight) * loss + weight * distilled

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._train.precision == "fp32":
            return contextlib.nullcontext()
        dtype = {"fp16": "float16", "bf16": "bfloat16"}[self._train.precision]
        return paddle.amp.auto_cast(dtype=dtype)

    def _update_ema(self) -> None:
        decay = self._train.ema_decay
        if decay is None:
            return
        with paddle.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in self._ema:
                    self._ema[name] = decay * self._ema[name] + (1 - decay) * parameter


def _trainable_copies(model: nn.Layer) -> dict[str, Tensor]:
    """Copies of the trainable parameters; averaging frozen ones would only add rounding errors."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if not p.stop_gradient}


def _assign(model: nn.Layer, values: dict[str, Tensor]) -> None:
    state = network_state(model)
    for name, value in values.items():
        state[name].set_value(value)


def _rename_parameter(key: str, names: dict[str, str]) -> str:
    """Renames the parameter in an optimizer's key, `PARAMETER_moment1_0`.

    Paddle numbers parameters in the order of their creation, so its names differ between processes.
    """
    owner = max((name for name in names if key.startswith(f"{name}_")), key=len, default=None)
    return key if owner is None else names[owner] + key[len(owner) :]


def _matching(model: nn.Layer, pattern: str, key: str) -> list[Tensor]:
    """The parameters whose names match a pattern; ConfigError if there are none."""
    names = dict(model.named_parameters())
    found = [parameter for name, parameter in names.items() if fnmatchcase(name, pattern)]
    if not found:
        examples = f"{next(iter(names))} ... {next(reversed(names))}"
        raise ConfigError(f"TRAIN.{key}: {safe_repr(pattern)} matches no parameter; there are: {examples}")
    return found


def freeze(model: nn.Layer, patterns: list[str]) -> list[Tensor]:
    """Freezes parameters by name.

    Args:
        model: Network.
        patterns: Patterns of parameter names, such as "backbone.*".

    Returns:
        The parameters that were trainable before; running means never are.

    Raises:
        ConfigError: A pattern matches no parameter, or no parameter is left to train.
    """
    frozen = []
    for pattern in patterns:
        for parameter in _matching(model, pattern, "freeze"):
            if not parameter.stop_gradient:
                frozen.append(parameter)
            parameter.stop_gradient = True
    if all(parameter.stop_gradient for parameter in model.parameters()):
        raise ConfigError(f"TRAIN.freeze: {patterns} freeze all parameters; freeze fewer")
    return frozen


def _set_lr_factors(model: nn.Layer, factors: dict[str, float]) -> None:
    done: set[str] = set()
    for pattern, factor in factors.items():
        for parameter in _matching(model, pattern, "lr_factors"):
            if parameter.name not in done:
                parameter.optimize_attr = {"learning_rate": factor}
                done.add(parameter.name)
    if all(p.stop_gradient or not p.optimize_attr["learning_rate"] for p in model.parameters()):
        raise ConfigError(f"TRAIN.lr_factors: {factors} leave no parameter to train; set one above 0")
