"""The report that `tagstream evaluate --report` writes: text to read, figures for machines, and charts."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from consumer.errors import SettingsError
from consumer.training import charts
from consumer.training.answers import Answers, EachOrNotScores, OneOfScores
from consumer.training.measures import Bin, LabelScore, Proportion, flips

REPORT_FILE, SCORES_FILE, SHARE_CHART = "report.md", "scores.json", "by-share.svg"
_MOST_CONFUSIONS = 20
_RECALLS = ("recall at 5 %", "the same, by label")
_FIGURES = ("passages", "top-1", "top-3", *_RECALLS, "macro-F1", "mean AP", "calibration error", "Brier score")
_HOW_TO_READ = """Shares are fractions of 1; in brackets, where they lie with 95 % confidence (Wilson), and of how many.
Recall at 5 % is with at most 5 % false alarms: at one threshold for all labels, or at one for each and then the mean.
AP is average precision. The calibration error is the expected one, over 15 bins. – is unknown."""

AnyScores = OneOfScores | EachOrNotScores


@dataclass(frozen=True)
class Evaluation:
    """What was answered, each sequence at most one per aspect.

    `about` says what was evaluated on what: shown on top as it is. `final` is with all that there is to read,
    `provisional` with a part of it, and `by_share` with so great a share of the video, 0 to 1; the report tells of the
    aspects in `final`. `first_tags` is a row for each video: the first tag in each of its revisions, None where there
    was none.
    """

    about: Mapping[str, str]
    final: Sequence[Answers]
    provisional: Sequence[Answers] = ()
    by_share: Mapping[float, Sequence[Answers]] = field(default_factory=dict)
    first_tags: Sequence[Sequence[str | None]] = ()


@dataclass(frozen=True)
class _Scored:
    """An evaluation with its answers scored, by aspect."""

    about: Mapping[str, str]
    final: Mapping[str, AnyScores]
    provisional: Mapping[str, AnyScores]
    by_share: Mapping[float, Mapping[str, AnyScores]]  # by rising share
    flips: Mapping[int, int]  # how many videos have so many


def write_report(folder: Path, evaluation: Evaluation) -> Path:
    """Writes report.md, scores.json and the charts, over those of an earlier report; returns the first.

    Raises SettingsError where it cannot.
    """
    scored = _scored(evaluation)
    files = {
        REPORT_FILE: "\n\n".join(_report(scored)) + "\n",
        SCORES_FILE: json.dumps(_rounded(asdict(scored)), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        **_charts(scored),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot write the report to {folder}: {error}") from error
    return folder / REPORT_FILE


def headline(evaluation: Evaluation) -> str:
    """The figures that count most, as a Markdown table."""
    return _headline(_scored(evaluation))


def _scored(evaluation: Evaluation) -> _Scored:
    return _Scored(
        evaluation.about,
        _by_aspect(evaluation.final),
        _by_aspect(evaluation.provisional),
        {share: _by_aspect(evaluation.by_share[share]) for share in sorted(evaluation.by_share)},
        dict(sorted(Counter(flips(row) for row in evaluation.first_tags).items())),
    )


def _by_aspect(answers: Sequence[Answers]) -> dict[str, AnyScores]:
    return {of_aspect.name: of_aspect.scores() for of_aspect in answers}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _rounded(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def _charts(scored: _Scored) -> dict[str, str]:
    files = {
        _chart_file(aspect): charts.reliability_chart(f"Reliability: {aspect}", _stages(aspect, scored))
        for aspect in scored.final
    }
    if scored.by_share:
        f1 = {aspect: _points(aspect, "macro_f1", scored) for aspect in scored.final}
        error = {aspect: _points(aspect, "calibration_error", scored) for aspect in scored.final}
        files[SHARE_CHART] = charts.share_chart("What is known after how much of a video", f1, error)
    return files


def _chart_file(aspect: str) -> str:
    return f"reliability-{re.sub(r'[^a-z0-9]+', '-', aspect.lower()).strip('-')}.svg"


def _stages(aspect: str, scored: _Scored) -> dict[str, Sequence[Bin]]:
    stages = {"provisional": scored.provisional, "final": scored.final}
    return {stage: aspects[aspect].reliability for stage, aspects in stages.items() if aspect in aspects}


def _points(aspect: str, measure: str, scored: _Scored) -> list[tuple[float, float]]:
    values = [
        (share, getattr(aspects[aspect], measure)) for share, aspects in scored.by_share.items() if aspect in aspects
    ]
    return [(share, value) for share, value in values if value is not None]


def _report(scored: _Scored) -> list[str]:
    """The report's paragraphs."""
    parts = ["# Evaluation", "\n".join(f"- {_cell(name)}: {_cell(value)}" for name, value in scored.about.items())]
    parts += [_headline(scored), _HOW_TO_READ]
    for aspect, of_aspect in scored.final.items():
        parts += [f"## {_cell(aspect)}", f"![Reliability: {_cell(aspect)}]({_chart_file(aspect)})", _served(of_aspect)]
        if isinstance(of_aspect, OneOfScores):
            parts += _abstaining(of_aspect), *_confusions(of_aspect)
        parts += [f"### {_cell(aspect)}: labels, the worst first", _labels(of_aspect)]
    if scored.by_share:
        parts += ["## By share of the video read", f"![F1 and calibration error]({SHARE_CHART})", _by_share(scored)]
    if scored.flips:
        parts += ["## Tag flips", _flips(scored.flips)]
    return [part for part in parts if part]


def _headline(scored: _Scored) -> str:
    """A row for each aspect, and one for what was said of it before all was read."""
    rows = []
    for aspect, final in scored.final.items():
        provisional = scored.provisional.get(aspect)
        rows.append([_cell(aspect), *_figures(final)])
        rows += [[_cell(f"{aspect}, provisional"), *_figures(provisional)]] if provisional else []
    return _table(["aspect", *_FIGURES], rows)


def _figures(scores: AnyScores) -> list[str]:
    """In the order of `_FIGURES`."""
    if isinstance(scores, OneOfScores):
        ranks = [_share(scores.top_1), _number(scores.top_3), "–", "–"]
    else:
        ranks = ["–", "–", _number(scores.recall_at_5), _number(scores.mean_recall_at_5)]
    values = scores.macro_f1, scores.mean_average_precision, scores.calibration_error, scores.brier
    return [f"{scores.passages:,}", *ranks, *map(_number, values)]


def _served(scores: AnyScores) -> str:
    """What comes of the thresholds that are used."""
    if not scores.served:
        return ""
    if isinstance(scores, OneOfScores):
        rows = [[_cell(name), _share(at.coverage), _share(at.precision)] for name, at in scores.served.items()]
        return _table(["threshold", "passages that get a tag", "precision of the first"], rows)
    return _table(
        ["threshold", "precision", "recall", "false alarms"],
        (
            [_cell(name), _share(at.precision), _share(at.recall), _share(at.false_alarms)]
            for name, at in scores.served.items()
        ),
    )


def _abstaining(scores: OneOfScores) -> str:
    rows = ([f"{below:g}", _share(at.coverage), _share(at.precision)] for below, at in scores.abstaining.items())
    return _table(["say nothing below", "coverage", "precision"], rows)


def _confusions(scores: OneOfScores) -> list[str]:
    first = scores.confusions[:_MOST_CONFUSIONS]
    rows = [
        [_cell(scores.names[one.label]), _cell(scores.names[one.taken_for]), str(one.count), _number(one.share)]
        for one in first
    ]
    title = f"### {_cell(scores.aspect)}: taken for another, {len(first)} of {len(scores.confusions)} pairs"
    return [title, _table(["label", "taken for", "passages", "share of the label's"], rows)] if rows else []


def _labels(scores: AnyScores) -> str:
    """A row for each label that holds for some passage or is found in one."""
    seen = [row for row in scores.labels if row.f1 is not None]
    seen.sort(key=lambda row: (row.f1, row.label))
    columns = ["label", "holds", "does not", "found", "precision", "recall", "F1", "AP", "recall at 5 %"]
    return _table(columns, (_label(scores.names[row.label], row) for row in seen))


def _label(name: str, row: LabelScore) -> list[str]:
    counts = (row.support, row.known - row.support, row.found)
    values = (row.precision, row.recall, row.f1, row.average_precision, row.recall_at_5)
    return [_cell(name), *(f"{count:,}" for count in counts), *map(_number, values)]


def _by_share(scored: _Scored) -> str:
    aspects = list(scored.final)
    columns = [f"{_cell(aspect)}: {measure}" for aspect in aspects for measure in ("macro-F1", "calibration error")]
    rows = []
    for share, at in scored.by_share.items():
        row = [f"{share:.3g}"]
        for aspect in aspects:
            scores = at.get(aspect)
            row += [_number(scores.macro_f1), _number(scores.calibration_error)] if scores else ["–", "–"]
        rows.append(row)
    return _table(["share", *columns], rows)


def _flips(of_videos: Mapping[int, int]) -> str:
    videos = sum(of_videos.values())
    mean = sum(number * count for number, count in of_videos.items()) / videos
    table = _table(["flips", "videos"], ([str(number), f"{count:,}"] for number, count in of_videos.items()))
    return f"The first tag changes {mean:.2f} times a video ({videos:,} videos).\n\n{table}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(share: Proportion) -> str:
    if share.value is None:
        return "–"
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f}; {share.right:,} of {share.of:,})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cell(words: str) -> str:
    """Words on one line, which Markdown takes as they are."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(words.split()))
