"""Extracts frame features: the same as `videotag extract`."""

from videotag.signals import leave

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    leave(main(["extract", *sys.argv[1:]]))
