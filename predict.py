"""Predicts tags: the same as `videotag predict`."""

from videotag.system.signals import exit_with

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    exit_with(main(["predict", *sys.argv[1:]]))
