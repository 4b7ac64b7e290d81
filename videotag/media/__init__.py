"""Media files <-> NumPy arrays: upright frames of a video with their display times, sound, pictures.

video.py yields the sampled frames of a file, for one or several views (views.py), which frame_scaler.py
scales; sound.py yields its sound, and picture.py a user's picture. decode_pool.py runs these readers in child
processes, so that a file that hangs or crashes FFmpeg affects no other. container.py opens files safely,
after mp4_tables.py has checked an MP4. timeline.py computes when each frame is displayed, using avi.py,
packet_times.py and packet_clock.py, which repair timestamps. frame_folder.py and frame_array.py read frames
from pictures and from memory, temporary_copy.py those of open files. log_mel.py turns sound into VGGish's
patches. sampling.py selects frames; orientation.py and transforms.py rotate, scale and crop them. writer.py
writes H.264; synthetic.py generates clips. suffixes.py lists the supported formats and suffixes.
"""
