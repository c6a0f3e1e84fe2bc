"""Makes the spoken clips from the texts beside them; needs flite, espeak-ng and ffmpeg.

`python tests/media/make_speech.py`. A line of text is a sentence, spoken by a synthetic voice and followed by
a pause; an empty line is a long pause. The clips are committed: the tests do not need this.
"""

import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
RATE = 16_000
PAUSE_S = 0.35
LONG_PAUSE_S = 5.0

# Name and voice; a language is a voice of espeak-ng.
CLIPS = [("bicycle", "slt"), ("pause", "slt"), ("italian", "it"), ("spanish", "es")]
SAMPLES = [("dal", "slt"), ("football", "rms"), ("laptop", "awb"), ("crypto", "kal16"), ("hike", "slt")]
SUBTITLED = {"hike"}
# What the samples show: a background, and boxes on it as x:y:width:height:colour.
PICTURES = {
    "dal": ["0x7a3b12", "30:40:100:40:0xd9d9d9", "40:45:80:20:0xf2b63c", "125:50:30:6:0x404040"],
    "football": ["0x2e7d32", "0:0:160:22:0x90a4ae", "60:18:40:28:0xffffff", "78:66:6:6:0xffffff"],
    "laptop": ["0x37474f", "40:15:80:45:0x111111", "44:19:72:37:0x1e88e5", "30:62:100:10:0x9e9e9e"],
    "crypto": ["0x101030", "20:60:12:20:0x00c853", "50:45:12:35:0x00c853", "110:10:14:70:0xffd600"],
    "hike": ["0x81d4fa", "0:50:160:40:0x5d7a4a", "40:20:50:30:0x8d8d8d", "95:55:45:14:0x1565c0"],
}

Speech = NDArray[np.int16]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, voice in CLIPS:
            make_clip(HERE / "speech" / name, voice, Path(folder))
        for name, voice in SAMPLES:
            make_sample(HERE / "samples" / name, voice, Path(folder))


def make_clip(base: Path, voice: str, folder: Path) -> None:
    speech, _ = spoken(base.with_suffix(".txt").read_text().splitlines(), voice, folder)
    sound = write_wave(folder / "sound.wav", speech)
    ffmpeg("-i", sound, "-c:a", "libopus", "-b:a", "24k", base.with_suffix(".ogg"))


def make_sample(base: Path, voice: str, folder: Path) -> None:
    speech, cues = spoken(base.with_suffix(".txt").read_text().splitlines(), voice, folder)
    sound, subtitles = write_wave(folder / "sound.wav", speech), folder / "cues.srt"
    subtitles.write_text(cues)
    background, *boxes = PICTURES[base.name]
    drawn = "".join(f",drawbox={box}:fill" for box in boxes)
    picture = f"color=c={background}:s=160x90:r=1:d={len(speech) / RATE:.0f}{drawn}"
    inputs: list[str | Path] = ["-f", "lavfi", "-i", picture, "-i", sound]
    tracks = ["-map", "0:v", "-map", "1:a", "-metadata:s:a:0", "language=eng"]
    if base.name in SUBTITLED:
        inputs += ["-i", subtitles]
        tracks += ["-map", "2:s", "-c:s", "mov_text", "-metadata:s:s:0", "language=eng"]
    codecs = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "35", "-c:a", "aac", "-b:a", "24k"]
    ffmpeg(*inputs, *tracks, *codecs, "-movflags", "+faststart", base.with_suffix(".mp4"))


def spoken(sentences: list[str], voice: str, folder: Path) -> tuple[Speech, str]:
    """The sentences as samples, and as subtitles in SRT."""
    parts: list[Speech] = []
    cues, at_s = [], 0.0
    for number, sentence in enumerate(sentences, 1):
        samples = say(sentence, voice, folder) if sentence else silence(LONG_PAUSE_S)
        end_s = at_s + len(samples) / RATE
        cues.append(f"{number}\n{clock(at_s)} --> {clock(end_s)}\n{sentence}\n")
        parts += [samples, silence(PAUSE_S)]
        at_s = end_s + PAUSE_S
    return np.concatenate(parts), "\n".join(cues)


def say(sentence: str, voice: str, folder: Path) -> Speech:
    raw, resampled = folder / "raw.wav", folder / "resampled.wav"
    if len(voice) == 2:
        subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "-w", raw, sentence], check=True)
    else:
        subprocess.run(["flite", "-voice", voice, "-t", sentence, "-o", raw], check=True)
    ffmpeg("-i", raw, "-ar", str(RATE), "-ac", "1", resampled)
    with wave.open(str(resampled)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def silence(length_s: float) -> Speech:
    return np.zeros(int(length_s * RATE), np.int16)


def ffmpeg(*options: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *options], check=True)


def write_wave(path: Path, samples: Speech) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


def clock(time_s: float) -> str:
    minutes, ms = divmod(round(time_s * 1000), 60_000)
    return f"00:{minutes:02}:{ms // 1000:02},{ms % 1000:03}"


if __name__ == "__main__":
    main()
