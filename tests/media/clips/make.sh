#!/bin/sh
# How the clips in this folder were made, with ffmpeg 5.1 and flite. The tests only need the clips.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
speech="$work/speech.wav"
flite -voice slt -o "$speech" -t "Good evening. Tonight we walk along the river and count the herons. \
There were seven this morning, and one of them had caught a fish."

cat > "$work/en.srt" <<CUES
1
00:00:00,200 --> 00:00:01,500
Good evening.

2
00:00:01,600 --> 00:00:04,900
<i>Tonight</i> we walk along the river
and count the herons.

3
00:00:05,000 --> 00:00:08,000
There were seven &amp; one had a fish.
CUES
cat > "$work/fr.srt" <<CUES
1
00:00:00,200 --> 00:00:01,500
Bonsoir.

2
00:00:01,600 --> 00:00:04,900
Ce soir, nous marchons le long du fleuve.
CUES

make() { ffmpeg -hide_banner -loglevel error -y -nostdin -bitexact "$@"; }
picture="-f lavfi -i color=c=teal:size=64x36:rate=1"
h264="-c:v libx264 -g 8"
aac="-c:a aac -b:a 24k -ar 16000"
subtitles="-i $work/en.srt"

make $picture -i "$speech" -t 8 $h264 $aac -movflags +faststart talk.mp4
make $picture -i "$speech" -t 8 $h264 $aac talk_index_last.mp4
make $picture -i "$speech" $subtitles -map 0 -map 1 -map 2 -t 8 $h264 $aac -c:s mov_text \
    -metadata:s:s:0 language=eng -movflags +faststart subtitled.mp4
make $picture -i "$speech" $subtitles -i "$work/fr.srt" -map 0 -map 1 -map 3 -map 2 -t 8 $h264 \
    -c:a libopus -b:a 16k -c:s srt -metadata:s:s:0 language=fre -metadata:s:s:1 language=eng subtitled.mkv
make $picture -t 3 -c:v libx264 no_audio.mp4
make $picture -f lavfi -i anullsrc=r=16000:cl=mono -t 3 -c:v libx264 -c:a aac -b:a 8k silence.mp4
make -i "$speech" -t 2 -ar 8000 -c:a pcm_s16le talk.wav
make -i "$speech" -t 8 -ar 16000 -b:a 16k talk.mp3
make -i "$speech" -t 8 -c:a libopus -b:a 12k talk.ogg
make -i "$speech" -t 2 -ar 8000 -c:a flac talk.flac
make -i "$speech" -t 8 -c:a aac -ar 16000 -b:a 16k talk.aac
make $picture -i "$speech" -t 8 $h264 -c:a aac -b:a 16k -ar 16000 talk.ts
make $picture -i "$speech" -t 3 -c:v libx264 -c:a libmp3lame -ar 16000 -b:a 16k talk.avi
make -i "$speech" -t 8 -af "aselect='lt(t,3)+gte(t,5)'" -c:a libopus -b:a 12k -vn gap.mkv
# What is refused: a container and an audio codec that are not read here, a video codec that is not opened.
make $picture -i "$speech" -t 2 -c:v flv1 -c:a libmp3lame -ar 22050 -b:a 16k talk.flv
make -i "$speech" -t 1 -ar 16000 -c:a wmav2 -b:a 24k wma.mkv
# Eighteen hours in one frame of a sample per second: 2 GB when it is resampled.
make -f lavfi -i anullsrc=r=1:cl=mono -t 65535 -c:a flac -frame_size 65535 bomb.flac
# Eighteen hours in one frame of a sample per second: 2 GB when it is resampled.
make -f lavfi -i anullsrc=r=1:cl=mono -t 65535 -c:a flac -frame_size 65535 bomb.flac
make -f lavfi -i color=c=teal:size=32x32:rate=1 -i "$speech" -t 1 -c:v magicyuv -c:a pcm_s16le -ar 8000 magicyuv.mkv
