"""Media files -> NumPy arrays: frames of a video, upright, with the time at which each is shown; and back.

video.py yields the sampled frames of a file, decode_pool.py does so in child processes, so that a file that
hangs or crashes FFmpeg costs that file alone. Below them, container.py opens files safely (mp4_tables.py
checks an MP4 first) and timeline.py says when each frame is shown, over packet_times.py and
packet_clock.py, which repair time stamps, and avi.py. frame_folder.py and frame_array.py read frames from
elsewhere; sampling.py chooses frames; orientation.py and transforms.py turn, scale and crop them. writer.py
writes H.264; synthetic.py generates clips. suffixes.py knows the suffixes of videos.
"""
