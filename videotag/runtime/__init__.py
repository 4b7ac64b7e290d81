"""Where a trained network runs."""

from videotag.quiet_paddle import paddle as paddle
