"""One attempt to download a file with pooch, its many ways to fail sorted into two."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PermanentError", "TransientError", "download"]

_CHUNK = 1 << 16
_RETRY_STATUS = (408, 425, 429)


class PermanentError(Exception):
    """Trying the same address again will not help."""


class TransientError(Exception):
    """Trying again may help."""


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from telling where it stores what, which is our temporary folder."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def download(url: str, place: Path, *, timeout: float, progress: Any = False) -> None:
    """Download an address to a path that does not exist yet.

    Args:
        url: http or https address; redirections are followed.
        place: file to write; absent after a failure.
        timeout: seconds without a byte after which to give up.
        progress: progress bar in pooch's sense, or False.

    Raises:
        PermanentError: if the server does not have the file or refuses it.
        TransientError: if the server or the connection failed.
    """
    import pooch
    import requests

    # Identity: a server that marks the .gz as compressed in transit would make requests unpack it on the way.
    headers = {"Accept-Encoding": "identity", "User-Agent": "higgsbench"}
    downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=_CHUNK, timeout=timeout, headers=headers)
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(url, known_hash=None, fname=place.name, path=place.parent, downloader=downloader)
    except requests.exceptions.HTTPError as error:
        raise _status_error(error.response) from None
    except requests.exceptions.Timeout as error:
        raise TransientError(f"no answer within {timeout:g} seconds") from error
    except requests.exceptions.TooManyRedirects as error:
        raise PermanentError("the server redirects in circles") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise PermanentError("not a valid address, or redirected to one") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise TransientError("the connection broke off before the file was complete") from error
    except requests.exceptions.SSLError as error:
        raise PermanentError("the server's certificate could not be verified") from error
    except requests.exceptions.ConnectionError as error:
        # A timeout between two blocks of the body arrives under this name, too.
        late = "timed out" in str(error).lower()
        raise TransientError(f"no data for {timeout:g} seconds" if late else "no connection to the server") from error
    except requests.exceptions.RequestException as error:
        raise TransientError(f"the download failed ({type(error).__name__})") from error


def _status_error(response: Any) -> Exception:
    status = int(response.status_code)
    text = f"the server answered {status} {response.reason or ''}".rstrip()
    response.close()
    return TransientError(text) if status >= 500 or status in _RETRY_STATUS else PermanentError(text)
