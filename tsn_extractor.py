"""Extracts frame features: the same as `videotag extract`."""

from videotag.system.signals import exit_with

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    exit_with(main(["extract", *sys.argv[1:]]))
