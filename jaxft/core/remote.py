"""Files and directories at URLs (gs://, s3:// and every other protocol of fsspec), which are read from local copies.

`local` downloads once into the cache folder, under a name made of the URL and of what its server says of the file (size,
time, digest ...), so changed files are downloaded again. Each machine downloads for itself.
"""

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jaxft.core.errors import UserError, one_line, show_as
from jaxft.core.paths import cache_dir, is_url, plain

Info = Mapping[str, Any]  # what fsspec says of a file
FOLDER = "remote"
PACKAGES = {"gs": "jaxft[gcs]", "gcs": "jaxft[gcs]", "s3": "jaxft[s3]", "s3a": "jaxft[s3]", "abfs": "adlfs", "az": "adlfs"}
PACKAGES |= {"http": "aiohttp requests", "https": "aiohttp requests"}
# Entries of fsspec's that say nothing of the content, or differ from one question to the next.
_NO_IDENTITY = (
    "name",
    "type",
    "url",
    "mimetype",
    "nlink",
    "partial",
    "Key",
    "selfLink",
    "mediaLink",
    "timeStorageClassUpdated",
)
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def local(where: str, *, skip: Sequence[str] = ()) -> str:
    """The local path of a file or directory: of one at a URL, that of a copy; any other path as it is, without `file://`.

    Of a directory, files whose path in it matches a pattern in `skip` are left out.

    Raises:
      UserError: if it is not there, or cannot be read; or if a package for its protocol is not installed.
    """
    where = plain(where)
    if not is_url(where):
        return where
    fs, path = file_system(where)
    with reading(where):
        fs.invalidate_cache()
        info = fs.info(path)
        if info["type"] != "directory":
            return str(_copy(where, fs, {_name(path): info}) / _name(path))
        files = listing(fs, path, where)
    files = {name: x for name, x in files.items() if not any(fnmatchcase(name, pattern) for pattern in skip)}
    if not files:
        raise UserError(f"{where}: no such file or directory, or an empty one")
    folder = _copy(where, fs, {f"{_name(path)}/{name}": x for name, x in files.items()}, skip) / _name(path)
    return str(folder)


def matching(where: str, *, directories: bool = False) -> list[str]:
    """The sorted paths that a name or pattern stands for, and at a URL the files, or the `directories`, without hidden ones.

    A name with *, ? or [ is a pattern unless a file has exactly that name. A name that is no pattern is returned as it is.
    """
    where = plain(where)
    if not is_url(where):
        path = str(Path(where).expanduser())
        return [where] if os.path.exists(path) or not glob.has_magic(where) else sorted(glob.glob(path, recursive=True))
    scheme, rest = where.split("://", 1)
    if not glob.has_magic(rest) or scheme.lower() in ("http", "https"):  # a ? begins the query there
        return [where]
    fs, path = file_system(where)
    with reading(where):
        fs.invalidate_cache()
        if fs.exists(path):
            return [where]
        found = [name for name, x in fs.glob(path, detail=True).items() if (x["type"] == "directory") == directories]
    fixed = len(path[: min(path.find(x) for x in "*?[" if x in path)].rpartition("/")[0])
    return [f"{scheme}://{name}" for name in sorted(found) if "/." not in name[fixed:]]


def exists(where: str) -> bool:
    """Whether there is a file or directory at a path or URL."""
    where = plain(where)
    if not is_url(where):
        return os.path.exists(Path(where).expanduser())
    fs, path = file_system(where)
    with reading(where):
        fs.invalidate_cache()
        return bool(fs.exists(path))


def file_system(url: str) -> tuple[Any, str]:
    """(the file system of fsspec, the path in it) for a URL.

    Raises:
      UserError: if fsspec has no such protocol, or the package that it needs for it is not installed.
    """
    import fsspec

    scheme = url.partition(":")[0].lower()
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        right = f"pip install '{package}'" if package else one_line(error)
        raise UserError(f"{url}: a package for {scheme}:// is not installed: {right}") from error
    except Exception as error:  # many kinds: an unknown protocol, a wrong bucket, missing credentials
        if isinstance(error, ValueError) and "rotocol" in str(error):
            raise UserError(
                f"{url}: fsspec knows no protocol {scheme}://; give a local path, or gs://, s3:// ..."
            ) from error
        raise fault(url, error, "read") from error
    return fs, str(path)


@contextmanager
def reading(url: str, action: str = "read") -> Iterator[None]:
    """A context in which what a server, or the way to it, refuses becomes a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every protocol has its own
        raise fault(url, error, action) from error


def fault(url: str, error: Exception, action: str) -> UserError:
    """The error to raise if a URL cannot be read or written (`action`)."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{url}: no such file or directory")
    if isinstance(error, PermissionError) or "denied" in str(error).lower() or "forbidden" in str(error).lower():
        return UserError(f"{url}: permission denied ({one_line(error)[:160]})")
    if isinstance(error, NotImplementedError):
        return UserError(f"{url}: {url.partition(':')[0]}:// cannot be {action} in this way ({one_line(error)[:160]})")
    said = f"{type(error).__name__}: {one_line(error)[:200]}".removesuffix(": ")
    return UserError(f"{url}: cannot be {action}: {said}; --debug says more")


def listing(fs: Any, root: str, url: str) -> dict[str, Info]:
    """What fsspec says of all files below a directory, by their paths in it.

    Raises:
      UserError: for a name that would lead out of the directory: anybody may have written there.
    """
    files = {}
    for path, info in fs.find(root, detail=True).items():
        name = path[len(root) :].strip("/")
        if not path.startswith(root) or ".." in name.split("/") or "\\" in name or "\0" in name:
            raise UserError(f"{url}: holds a file {name[:100]!r}, which cannot be copied")
        if name and info["type"] == "file" and not path.endswith("/"):
            files[name] = info
    return files


def identity(info: Info) -> str:
    """What a server says of the content of a file, as text; empty if it says no more than its size."""
    said = {key: value for key, value in info.items() if key not in _NO_IDENTITY and value is not None}
    return json.dumps(said, sort_keys=True, default=str) if said.keys() - {"size"} else ""


def _copy(url: str, fs: Any, files: Mapping[str, Info], skip: Sequence[str] = ()) -> Path:
    """The folder with copies of files, whose names begin with the last part of the URL; missing ones are downloaded."""
    said = [identity(info) for info in files.values()]
    key = json.dumps([url, *skip, *(list(zip(files, said, strict=True)) if all(said) else [])])
    root = cache_dir() / FOLDER
    folder = root / hashlib.sha256(key.encode()).hexdigest()[:32]
    top = folder / next(iter(files)).partition("/")[0]
    for path in {str(top), str(top.resolve())}:
        show_as(path, url.rstrip("/"))
    if all(said) and all(_is_whole(folder / name, info) for name, info in files.items()):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".", dir=root))
    except OSError as error:
        raise UserError(f"{root}: cannot be written: {error.strerror}; set JAXFT_CACHE to a folder that can be") from error
    try:
        wanted = [x for x, info in files.items() if not (all(said) and _is_whole(folder / x, info))]
        with reading(url):
            download(fs, {str(files[name]["name"]): temporary / name for name in wanted})
        for name in wanted:
            size, expected = (temporary / name).stat().st_size, files[name].get("size")
            if expected is not None and size != expected:
                where = url if len(files) == 1 else f"{url}: {name.partition('/')[2]}"
                raise UserError(f"{where}: {size:,} bytes arrived instead of {expected:,}; start again")
        for name in wanted:  # each is replaced at once, so another process reads either copy, which are the same
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary / name, folder / name)
    except OSError as error:
        raise UserError(f"{root}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def download(fs: Any, paths: Mapping[str, Path]) -> None:
    """Copy files of a file system to local paths, whose folders are made; the errors are those of the protocol."""
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        fs.get(list(paths), [str(path) for path in paths.values()])
    except OSError as error:
        if error.errno in _DISK_FAULTS:
            raise UserError(f"{cache_dir()}: cannot be written: {error.strerror}") from error
        raise


def _is_whole(path: Path, info: Info) -> bool:
    with suppress(OSError):
        return path.is_file() and info.get("size") in (None, path.stat().st_size)
    return False


def _name(path: str) -> str:
    """The last part of a path, which tells the format of a file; without the query of a web address."""
    name = path.rstrip("/").partition("?")[0] if "://" in path else path.rstrip("/")
    return name.rpartition("/")[2] or "root"
