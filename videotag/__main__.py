"""`python -m videotag`: the same as the installed command."""

from videotag.cli.main import run

if __name__ == "__main__":
    run()
