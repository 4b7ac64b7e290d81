"""What any program needs: whole files, locks, signals, progress, downloads.

atomic.py writes files whole or not at all; folder_lock.py allows one run in a folder; failures.py lists
what failed. signals.py answers Ctrl-C and SIGTERM; progress.py draws a bar. regular_file.py, text.py and
json_text.py read files within bounds; download.py fetches them; resources.py finds shipped ones. cores.py
counts threads, kept_memory.py keeps freed memory. quiet_paddle.py and quiet_runtimes.py import Paddle and
other backends without their output and telemetry.

Nothing here knows of videos or models, and only quiet_paddle.py loads Paddle.
"""
