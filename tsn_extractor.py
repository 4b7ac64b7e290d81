"""Extracts frame features: the same as `videotag extract`."""

import sys

from videotag.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["extract", *sys.argv[1:]]))
