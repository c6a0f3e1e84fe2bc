"""The command line."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from consumer import commands
from consumer.errors import SettingsError, TagstreamError
from consumer.settings import Loaded, load_settings

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_EPILOG = """exit codes: 0 success, 1 the work failed, 2 wrong usage or settings.
Settings come from a TOML file (--config) and from TAGSTREAM_… variables; `tagstream settings` lists them all."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpcore", "faster_whisper"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        code: int = options.run(options, load_settings(os.environ, options.config))
        return code
    except SettingsError as error:
        print(f"tagstream: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except TagstreamError as error:
        print(f"tagstream: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tagstream",
        description="Tags videos while it reads them: upload events in, growing tag events out, over Kafka.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="settings file; variables win over it")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")

    for add in (_add_stream_commands, _add_dead_letter_commands, _add_local_commands, _add_training_commands):
        add(subcommands)
    return parser


def _add_stream_commands(subcommands: Subcommands) -> None:
    run = _command(subcommands, "run", commands.run, "consume uploads from Kafka until SIGTERM")
    run.description = (
        "Consumes video-uploaded events, publishes tags, serves /metrics, /livez and /readyz. SIGTERM drains: takes no "
        "more, stops each video after the window in hand, stores what is ready, leaves the group, exits 0. A second "
        "exits at once."
    )
    publish = _command(subcommands, "publish", commands.publish, "send a video-uploaded event for each file or URL")
    publish.add_argument("media", nargs="+", help="files or URLs, as the consumers can reach them")
    publish.add_argument("--title", help="title of the uploads")

    watch = _command(subcommands, "watch", commands.watch, "show a live table of a tags topic")
    watch.add_argument("--from-beginning", action="store_true", help="start with what is there already")
    watch.add_argument("--json", action="store_true", help="print each event on one line instead")

    topics = subcommands.add_parser("topics", help="make the topics").add_subparsers(required=True, metavar="COMMAND")
    create = _command(
        topics,
        "create",
        commands.create_topics,
        "create the topics that are missing, with the right settings",
    )
    create.add_argument(
        "--partitions", type=int, default=12, help="of the input, and so the most consumers at work (12)"
    )
    create.add_argument("--replication", type=int, default=1, help="copies of each partition; 3 in production (1)")


def _add_dead_letter_commands(subcommands: Subcommands) -> None:
    dlq = subcommands.add_parser("dlq", help="look at dead letters, and send them again")
    letters = dlq.add_subparsers(required=True, metavar="COMMAND")
    listed = _command(letters, "list", commands.list_dead_letters, "print the dead letters, oldest first")
    listed.add_argument("--json", action="store_true", help="print each event on one line, and nothing else")

    redrive = _command(letters, "redrive", commands.redrive_dead_letters, "try the uploads of dead letters again")
    redrive.description = (
        "Shows which dead letters would be sent where. With --send, sends them to the retry topic: the consumer takes "
        "each upload up again, at its first try; readers of the uploads topic see nothing of it. The dead letters stay "
        "where they are: choose with --since those that were not redriven yet."
    )
    redrive.add_argument("--send", action="store_true", help="send them; without it nothing is sent")
    for command in (listed, redrive):
        _add_selection(command)


def _add_selection(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--reason", action="append", default=[], metavar="CODE", help="only this reason code; may be given repeatedly"
    )
    command.add_argument("--stage", help="only this stage")
    command.add_argument("--video", metavar="ID", help="only this video")
    command.add_argument(
        "--since",
        type=commands.moment_ms,
        metavar="TIME",
        help="stored then or later: 2026-05-01T12:00:00Z (UTC unless it says otherwise), or an age like 30m, 2h, 7d",
    )
    command.add_argument("--until", type=commands.moment_ms, metavar="TIME", help="stored before then, likewise")


def _add_local_commands(subcommands: Subcommands) -> None:
    tag = _command(subcommands, "tag", commands.tag, "tag local files or URLs, without Kafka")
    tag.add_argument("media", nargs="+", help="files or http(s) URLs")
    tag.add_argument(
        "--json", action="store_true", help="print each event on one line: partial ones, then the final one"
    )
    tag.add_argument("--title", help="what the uploader called it; read as text, never as an instruction")

    _command(subcommands, "settings", commands.settings, "print every setting, its value, and where that came from")
    _command(
        subcommands,
        "models",
        commands.models,
        "load and convert the models now, so that the next start is fast",
    )

    demo = _command(subcommands, "demo", commands.demo, "the whole way on an embedded broker: publish, tag, watch")
    demo.add_argument("media", nargs="+", help="videos to publish")


def _add_training_commands(subcommands: Subcommands) -> None:
    train = _command(subcommands, "train", commands.train, "train heads for the language model from examples")
    train.add_argument("data", nargs="*", type=Path, help="JSONL files of examples; none: the shipped ones")
    train.add_argument("--out", type=Path, required=True, help="folder for the heads; use them as llm.heads")

    evaluate = _command(
        subcommands, "evaluate", commands.evaluate, "score the heads on examples they were not trained on"
    )
    evaluate.add_argument("data", nargs="+", type=Path, help="JSONL files of examples")
    evaluate.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write report.md, scores.json and charts there, of whole passages and of their beginnings",
    )


def _command(
    subcommands: Subcommands, name: str, run: Callable[[argparse.Namespace, Loaded], int], help: str
) -> argparse.ArgumentParser:
    parser = subcommands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
