"""Predicts tags: the same as `videotag predict`."""

from videotag.signals import leave

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    leave(main(["predict", *sys.argv[1:]]))
