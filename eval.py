"""Evaluates a model: the same as `videotag eval`."""

from videotag.signals import leave

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    leave(main(["eval", *sys.argv[1:]]))
