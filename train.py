"""Trains a tagger: the same as `videotag train`."""

from videotag.system.signals import exit_with

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    exit_with(main(["train", *sys.argv[1:]]))
