"""Bytes on disk: a file is there whole or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from latentface.errors import OutputError, PictureError


def read_bytes(path: str | Path) -> bytes:
    """Read a file, or say in one line why not. Raises PictureError: it is missing, a folder, or may not be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise PictureError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise PictureError(f"{path}: this is a folder, not a picture") from None
    except OSError as error:
        raise PictureError(f"{path}: it cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed onto it when the block ends well and removed when it does not.

    Raises OutputError: the folder cannot be made or written, or the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        # A short stem: with a long one the temporary name would be too long where the file's own is not.
        name = f".{target.name[:40]}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.part"
        # Not by mkstemp, whose 0600 would hide results from the group: the umask can only be read by changing it.
        os.close(os.open(target.parent / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary = target.parent / name
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise OutputError(_why_not_written(target, error)) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


LEFT_AFTER = 24 * 3600.0  # seconds since a temporary file was last written, after which it may be taken for left
_swept: set[Path] = set()


def _remove_leftovers(folder: Path) -> None:
    """Remove old temporary files in `folder` whose process, of this machine, was killed; a process looks once a folder.

    Containers may share a folder and a host name, so that a process's number alone does not tell.
    """
    where = folder.absolute()
    if where in _swept or os.name != "posix":
        return
    _swept.add(where)
    pattern = re.compile(r"\..*\." + re.escape(socket.gethostname()) + r"-(\d+)-\w+\.part")
    with os.scandir(where) as entries:
        killed = [entry for entry in entries if (m := pattern.fullmatch(entry.name)) and not _alive(int(m[1]))]
    for entry in killed:
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > LEFT_AFTER:
                os.unlink(entry.path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # another user's process
    return True


def _why_not_written(target: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{target}: the disk is full; free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{target}: the folder may not be written; choose another with -o"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{target}: a file stands where a folder is needed; choose another with -o"
    return f"{target}: it cannot be written ({error.strerror or error}); choose another place with -o"


def check_folder(folder: Path) -> None:
    """Make a folder for results, before hours are spent on what could not be written. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OutputError(_why_not_written(folder, error)) from None


def check_name(path: Path) -> None:
    """Check that a file's name is not too long for the disk that it goes to. Raises OutputError."""
    folder = next(parent for parent in path.absolute().parents if os.path.isdir(parent))
    longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    length = len(os.fsencode(path.name))
    if length > longest:
        raise OutputError(
            f"its result's name, {path.name[:20]}...{path.name[-20:]}, would have {length} bytes, and {longest} is the most here; "
            "give the picture a shorter name"
        )


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically. Raises OutputError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file atomically. Raises OutputError."""
    write_bytes(path, text.encode(errors="backslashreplace"))  # a file's name may be no Unicode


def write_json(path: str | Path, value: object) -> None:
    """Write a JSON file atomically. Raises OutputError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
