"""Trains a tagger: the same as `videotag train`."""

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
