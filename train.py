"""Trains a tagger: the same as `videotag train`."""

from videotag.signals import leave

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    leave(main(["train", *sys.argv[1:]]))
