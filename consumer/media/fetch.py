"""Opens an upload's address: a path, file://, http(s):// or s3://. All reasons: see `consumer.media`."""

import re
from urllib.parse import quote, unquote, urlsplit

from consumer.errors import PermanentError
from consumer.media.source import FileSource, Source, check_size
from consumer.media.web import HttpSource
from consumer.settings import MediaSettings


def open_source(uri: str, settings: MediaSettings) -> Source:
    """The media's bytes; a context manager.

    Raises PermanentError or TransientError with stage "fetch". Messages carry no credentials and no query.
    """
    scheme = _scheme(uri)
    if scheme in ("http", "https"):
        return HttpSource(uri, settings)
    if scheme == "s3":
        # Who set the endpoint trusts its host, which is often a private one.
        return HttpSource(_object_url(uri, settings.s3_endpoint), settings, trusted=True)
    path = local_path(uri)
    if path is None:
        message = f"{scheme}:// cannot be fetched; use a path, file, http, https or s3"
        raise PermanentError("unsupported_scheme", message, stage="fetch")
    return _open_file(path, settings)


def local_path(uri: str) -> str | None:
    """The path that a plain path or a file:// URI means; None for any other scheme."""
    scheme = _scheme(uri)
    if scheme is None:
        return uri
    if scheme != "file":
        return None
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise PermanentError("unsupported_scheme", "a file:// URI must name no other host", stage="fetch")
    return unquote(parts.path)


def _scheme(uri: str) -> str | None:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    return found[1].lower() if found else None


def _open_file(path: str, settings: MediaSettings) -> Source:
    source = FileSource(path, settings)
    try:
        check_size(source.size or 0, path, settings)
    except PermanentError:
        source.close()
        raise
    return source


def _object_url(uri: str, endpoint: str | None) -> str:
    if endpoint is None:
        message = "s3:// needs media.s3_endpoint (TAGSTREAM_MEDIA__S3_ENDPOINT): where buckets are read"
        raise PermanentError("s3_endpoint_missing", message, stage="fetch")
    bucket_and_key = uri.partition("://")[2]
    if any(part in (".", "..") for part in bucket_and_key.split("/")):
        raise PermanentError("not_permitted", "an s3:// key must not climb out of its bucket", stage="fetch")
    return f"{endpoint.rstrip('/')}/{quote(bucket_and_key, safe='/')}"
