"""Model references: a folder, a file, something inside an installed Python package, or a hub id.

/models/whisper                      a folder (or a file)
pkg://package/inner/path             a folder or file inside a package
pkg://package                        a model whose package joins its parts by `assemble(path)`
pkg://part_one+part_two/inner        a folder spread over packages; its `NAME.part1`, `NAME.part2` … are joined
Qwen/Qwen3-0.6B                      a hub id
"""

import importlib.metadata
import importlib.util
import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from filelock import FileLock

from consumer.errors import SettingsError

_PART = re.compile(r"\.part(\d+)$")
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")


def resolve(reference: str, cache: Path) -> Path | None:
    """The local file or folder that `reference` names, or None when it is a hub id.

    What has to be joined from parts is kept in `cache`. The network is never touched.

    Raises SettingsError, saying what was looked for and what to do, when there is no such thing.
    """
    if reference.startswith("pkg://"):
        return _in_package(reference, cache)
    path = Path(reference).expanduser()
    if path.exists():
        return path
    if _HUB_ID.match(reference) and not reference.startswith((".", "~")):
        return None
    raise SettingsError(
        f"model {reference!r}: no such file or folder ({path.absolute()}), and not a hub id like owner/name"
    )


def _in_package(reference: str, cache: Path) -> Path:
    names, _, inner = reference.removeprefix("pkg://").partition("/")
    packages = names.split("+")
    folders = [_package_folder(reference, package) for package in packages]
    if not inner:
        return _assembled(reference, packages[0], cache)
    paths = [_inside(reference, folder, inner) for folder in folders]
    return paths[0] if len(paths) == 1 else _joined(packages, paths, cache)


def _package_folder(reference: str, package: str) -> Path:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise SettingsError(
            f"model {reference!r}: no package {package!r} is installed here; install the one that brings this model "
            f"(pip install {package.replace('_', '-')}), or set another model"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _inside(reference: str, folder: Path, inner: str) -> Path:
    path = (folder / inner).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.exists():
        names = ", ".join(sorted(entry.name for entry in folder.iterdir() if entry.name != "__pycache__"))
        raise SettingsError(f"model {reference!r}: package {folder.name!r} has no {inner!r}; it holds: {names}")
    return path


def _assembled(reference: str, package: str, cache: Path) -> Path:
    assemble: Callable[[Path], Path] | None = getattr(import_module(package), "assemble", None)
    if assemble is None:
        raise SettingsError(f"model {reference!r}: name a file in the package, as in pkg://{package}/model.gguf")
    return _made_once(cache / "assembled" / f"{package}-{_version(package)}.gguf", assemble)


def _joined(packages: list[str], folders: list[Path], cache: Path) -> Path:
    def join(target: Path) -> None:
        target.mkdir()
        for file in sorted(_files(folders), key=_part_number):
            name, mode = _PART.sub("", file.name), "ab" if _part_number(file) else "wb"
            with file.open("rb") as source, (target / name).open(mode) as out:
                shutil.copyfileobj(source, out)

    return _made_once(cache / "assembled" / f"{packages[0]}-{_version(packages[0])}", join)


def _files(folders: list[Path]) -> list[Path]:
    return [file for folder in folders for file in folder.iterdir() if file.is_file()]


def _part_number(file: Path) -> int:
    """0 for a whole file. As numbers: in the order of the alphabet, part10 stands before part2."""
    part = _PART.search(file.name)
    return int(part[1]) if part else 0


def _made_once(target: Path, make: Callable[[Path], object]) -> Path:
    """`target`, made beside its place and moved into it: a process that dies midway leaves no half of it."""
    if target.exists():  # without a lock: the cache may be read-only by now
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.exists():
            part = target.with_name(f"{target.name}.part")
            _remove(part)  # a process that died may have left one
            make(part)
            part.rename(target)
    return target


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)


def _version(package: str) -> str:
    return importlib.metadata.version(importlib.metadata.packages_distributions()[package][0])
