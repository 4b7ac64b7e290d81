"""The commands, one file each: SUMMARY, add_arguments(parser) and run(args) -> exit code."""
