"""Predicts tags: the same as `videotag predict`."""

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
