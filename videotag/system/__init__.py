"""General services: atomic writes, locks, signals, progress bars, downloads.

atomic.py writes files completely or not at all; folder_lock.py admits one run at a time to a folder;
failures.py lists failed inputs. signals.py handles Ctrl-C and SIGTERM; progress.py shows progress.
regular_file.py, text.py and json_text.py read files within size limits; download.py downloads files;
resources.py finds shipped ones. cores.py sets the number of threads; kept_memory.py tunes malloc;
memory_limit.py reads how much memory there is.
quiet_paddle.py and quiet_runtimes.py import Paddle and other backends without their output and telemetry.

Nothing here depends on videos or models, and only quiet_paddle.py imports Paddle.
"""
