"""What is done with models: train, evaluate, predict, extract."""

from videotag.quiet_paddle import paddle as paddle
