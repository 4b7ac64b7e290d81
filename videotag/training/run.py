"""The epochs of a training run: steps, validation, checkpoints."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videotag.config import Config
from videotag.datasets.batches import Dataset
from videotag.errors import FileListError, MediaError, RecordError, VideotagError
from videotag.inference.data import evaluation_batches
from videotag.inference.evaluate import BEST_METRIC, evaluate, in_layers
from videotag.inference.parallel import broadcast_flag, is_main, rank, world_size
from videotag.system.atomic import link_atomic
from videotag.system.failures import FailureList
from videotag.system.progress import time_left, track
from videotag.training.batches import training_batches
from videotag.training.checkpoint import save_weights
from videotag.training.gradients import average_buffers
from videotag.training.last_layer_solver import LastLayerSolver
from videotag.training.learner import Learner
from videotag.training.run_log import RunLog
from videotag.training.run_state import Progress, checkpoint_path, delete_old_checkpoints, save_state

if TYPE_CHECKING:
    from paddle import nn

LOSS_SPIKE_FACTOR = 10  # warn if an epoch's last loss exceeds the first loss by this factor
logger = logging.getLogger(__name__)


class DivergedError(VideotagError):
    """The loss became NaN or infinite."""


@dataclass
class Run:
    """State shared by all epochs of a run.

    Attributes:
        config: Config of the model.
        data: Dataset of the TRAIN section.
        valid_data: Dataset of the VALID section; None without validation.
        save_dir: Folder of the checkpoints.
        valid_interval: Number of epochs between validations; 0 for none.
        log_interval: Number of steps between log lines.
        learner: Learner or solver, which holds the network.
        log: Log of the run.
        steps_per_epoch: Number of steps per epoch.
        failures: List of the videos that were skipped; each process of a run adds its own.
        first_loss: Loss of the first step; None before it.
        failed: Error message by video, for all videos that were skipped so far, also before a resume.
    """

    config: Config
    data: Dataset
    valid_data: Dataset | None
    save_dir: Path
    valid_interval: int
    log_interval: int
    learner: Learner | LastLayerSolver
    log: RunLog
    steps_per_epoch: int
    failures: FailureList
    first_loss: float | None = None
    failed: dict[str, str] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)
    _start_sec: float = field(default_factory=time.monotonic)
    _num_steps: int = 0  # since then

    def log_start(self, progress: Progress) -> None:
        """Logs seed, processes and numbers of samples that the run starts or resumes with.

        Args:
            progress: Progress so far.

        Raises:
            OutputError: The log cannot be written.
        """
        values = {
            "seed": progress.seed,
            "processes": world_size(),
            "num_samples": len(self.data),
            "num_valid": len(self.valid_data) if self.valid_data else 0,
        }
        text = ", ".join(f"{key} {value}" for key, value in values.items())
        self.log.write("start", text, step=progress.epoch * self.steps_per_epoch + progress.step, **values)

    def epochs(self, progress: Progress) -> Progress:
        """Trains until the last epoch or an early stop, and returns the new progress.

        Args:
            progress: Progress so far.

        Raises:
            DivergedError: The loss became NaN or infinite.
            FileListError: No video of the training list can be read.
            OutputError: A checkpoint or the log cannot be written.
        """
        while progress.epoch < self.config.train.epoch and not self._stops_early(progress):
            progress = self._epoch(progress)
        return progress

    def _stops_early(self, progress: Progress) -> bool:
        limit = self.config.train.early_stop
        if not limit or progress.validations_since_best < limit:
            return False
        logger.info("stopped early: no improvement in %d validations", progress.validations_since_best)
        return True

    def _epoch(self, progress: Progress) -> Progress:
        """Trains the rest of an epoch, validates, writes a checkpoint and returns the new progress."""
        epoch, train = progress.epoch, self.config.train
        if isinstance(self.learner, LastLayerSolver):
            self._solve(self.learner)
        else:
            self._learn(self.learner, progress)
        progress = replace(progress, epoch=epoch + 1, step=0)
        with self._saving_weights(progress) as averaged:
            is_due = self.valid_interval and (epoch + 1) % self.valid_interval == 0
            if self.valid_data and self.valid_interval and (is_due or epoch + 1 == train.epoch):
                progress = self._validate(averaged, progress)
        self._complete_checkpoint(progress)
        return progress

    def _solve(self, solver: LastLayerSolver) -> None:
        penalty = self.config.train.weight_decay
        assert isinstance(penalty, float), "calibrated before"
        loss = solver.solve(penalty)
        text = f"solved to the optimum, loss {loss:.4g}, weight decay {penalty:.3g}"
        self.log.write("train", text, step=0, epoch=0, loss=_check_finite(loss, 0))

    def _learn(self, learner: Learner, progress: Progress) -> None:
        epoch, train = progress.epoch, self.config.train
        learner.start_epoch()
        batches = training_batches(
            self.config,
            self.data,
            epoch=epoch,
            seed=progress.seed,
            on_error=self.skip_unreadable,
            first_step=progress.step,
        )
        saved_sec = time.monotonic()
        steps = track(batches, self._name(epoch), self.steps_per_epoch - progress.step)
        loss = None
        for done, batch in enumerate(steps, start=progress.step + 1):
            self._num_steps += 1
            step = epoch * self.steps_per_epoch + done - 1
            learned = learner.learn(batch, step=step, seed=_step_seed(progress.seed, step))
            if learned is None:
                continue
            loss, rate = learned
            self.first_loss = loss.item() if self.first_loss is None else self.first_loss
            if step % self.log_interval == 0:
                value = _check_finite(loss.item(), step)
                text = f"{self._name(epoch)}, step {done} of {self.steps_per_epoch}, loss {value:.4g}, "
                text += f"learning rate {rate:.4g}, {self._time_left(step)}"
                self.log.write("train", text, step=step, epoch=epoch, loss=value, learning_rate=rate)
                is_due = 0 < train.checkpoint_minutes * 60 < time.monotonic() - saved_sec
                if broadcast_flag(is_due) and done < self.steps_per_epoch:
                    self._checkpoint(replace(progress, step=done))
                    saved_sec = time.monotonic()
        if loss is None and progress.step:
            return  # resumed in this epoch, and no video in the rest of it could be read
        if loss is None:
            raise FileListError(
                f"{train.filelist}: none of its videos could be read; check the paths, or try one with "
                "`videotag tag` or `videotag predict`"
            )
        last_loss = _check_finite(loss.item(), step)  # before NaN weights are saved
        if self.first_loss is not None and last_loss > LOSS_SPIKE_FACTOR * self.first_loss:
            logger.warning(
                "the loss rose from %.4g to %.4g; lower TRAIN.learning_rate or set TRAIN.clip_norm=1",
                self.first_loss,
                last_loss,
            )

    def _checkpoint(self, progress: Progress) -> None:
        """Writes a checkpoint in the middle of an epoch."""
        with self._saving_weights(progress):
            pass
        self._complete_checkpoint(progress)

    @contextlib.contextmanager
    def _saving_weights(self, progress: Progress) -> Iterator[nn.Layer]:
        """Writes the averaged weights; in the context, the network has them."""
        average_buffers(self.learner.model)
        with self.learner.averaged() as averaged:
            if is_main():
                save_weights(averaged, self._path(progress))
            yield averaged

    def _complete_checkpoint(self, progress: Progress) -> None:
        """Completes the checkpoint whose weights are written, and deletes old ones."""
        if is_main():
            name = self.config.entry.name
            save_state(self._path(progress), self.learner.state(), progress)
            best = link_latest(self.save_dir, name, progress)
            delete_old_checkpoints(self.save_dir, name, keep=self.config.train.keep, best=best)

    def _path(self, progress: Progress) -> Path:
        return _path(self.save_dir, self.config.entry.name, progress)

    def _validate(self, model: nn.Layer, progress: Progress) -> Progress:
        config, epoch = self.config, progress.epoch - 1
        assert self.valid_data is not None
        name = f"{self._name(epoch)}, validation"
        batches = evaluation_batches(self.valid_data, config.valid, on_error=self.skip_unreadable)
        batches = track(batches, name, -(-len(self.valid_data) // config.valid.batch_size))
        metrics = evaluate(in_layers(model), batches, task=config.task)
        values = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in metrics.items())
        text = f"{name}: {', '.join(values)}"
        self.log.write("valid", text, step=progress.epoch * self.steps_per_epoch, epoch=epoch, **metrics)
        metric = BEST_METRIC[config.task]
        if metrics["num_videos"] == metrics.get("num_without_labels", 0):
            logger.warning(
                "VALID.filelist: no labeled video can be read; this epoch is not compared with others"
            )
            return progress
        score, highest = metrics[metric], progress.highest
        if highest is None and progress.best is not None:
            highest = progress.best.get(metric)  # of a run of version 0.1.0
        if highest is None or score > highest:
            return replace(progress, best_epoch=epoch, best=metrics, highest=score, validations_since_best=0)
        progress = replace(progress, validations_since_best=progress.validations_since_best + 1)
        num_labeled = metrics["num_videos"] - metrics.get("num_without_labels", 0)
        if score >= highest - (highest * (1 - highest) / num_labeled) ** 0.5:
            # Not distinguishable on so few videos; the later epoch is better on average.
            progress = replace(progress, best_epoch=epoch, best=metrics)
        return progress

    def _name(self, epoch: int) -> str:
        """An epoch in messages, which count from 1."""
        return f"epoch {epoch + 1} of {self.config.train.epoch}"

    def _time_left(self, step: int) -> str:
        """The estimated time for all steps after this one, with validations and checkpoints."""
        rest = self.config.train.epoch * self.steps_per_epoch - step - 1
        elapsed_sec = time.monotonic() - self._start_sec
        return time_left(elapsed_sec, done=self._num_steps, total=self._num_steps + rest)

    def skip_unreadable(self, video: str, error: VideotagError) -> None:
        """Records a video that cannot be read.

        Args:
            video: Id of the video.
            error: MediaError or RecordError; any other error is raised.
        """
        if not isinstance(error, MediaError | RecordError):
            raise error
        if str(error) not in self._warned:  # a missing file gives the same message for each of its records
            logger.warning("skipped: %s", error)
            self._warned.add(str(error))
        if video not in self.failed:
            self.failures.add(video, error)
        self.failed[video] = str(error)


def link_latest(save_dir: Path, name: str, progress: Progress) -> Path | None:
    """Links {name}.pdparams to the last weights and {name}_best.pdparams to the best, if any.

    Also called after a resume, in case the run was killed just before.

    Args:
        save_dir: Folder of the checkpoints.
        name: Name of the model.
        progress: Progress of the run.

    Returns:
        Path of the best epoch's weights; None before the first validation.
    """
    best_path = None
    if progress.best_epoch is not None:
        best_path = checkpoint_path(save_dir, name, progress.best_epoch)
    if is_main():
        link_atomic(_path(save_dir, name, progress), save_dir / f"{name}.pdparams")
        if best_path is not None:
            link_atomic(best_path, save_dir / f"{name}_best.pdparams")
    return best_path


def _path(save_dir: Path, name: str, progress: Progress) -> Path:
    """The weights of the checkpoint at this progress."""
    if progress.step:
        return checkpoint_path(save_dir, name, progress.epoch, progress.step)
    return checkpoint_path(save_dir, name, progress.epoch - 1)


def _step_seed(seed: int, step: int) -> int:
    """The seed of a step's dropout and augmentation, different in every process."""
    words = [seed, step, rank()] if rank() else [seed, step]
    return int(np.random.SeedSequence(words).generate_state(1)[0]) % 2**31


def _check_finite(loss: float, step: int) -> float:
    if not np.isfinite(loss):
        raise DivergedError(
            f"the loss is {loss} at step {step}; lower TRAIN.learning_rate or set TRAIN.clip_norm=1"
        )
    return loss
