"""Evaluates a model: the same as `videotag eval`."""

from videotag.system.signals import exit_with

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    exit_with(main(["eval", *sys.argv[1:]]))
