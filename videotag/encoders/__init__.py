"""Networks that turn sound and texts into features, one file per network.

encoder.py has the interfaces. vggish_sound.py and speech_embedding.py encode sound, in the windows of
windows.py; bert_text.py (tokens by wordpiece.py) and sentence_encoder.py encode texts.
videotag.inference.features writes their features.
"""
