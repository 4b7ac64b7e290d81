"""Evaluates a model: the same as `videotag eval`."""

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
