"""A vendor's matcher as a gallery, over OSIA ABIS 1.6 (``POST /v1/identify/{galleryId}``).

Copyright © Secure Identity Alliance (2022) for the interface that this speaks.

1. The answer is the vendor's: ``exact`` is false, and the report says so (promise 6 is not met).
   The score is in the scale of the matcher that the settings name.
2. Who may be searched is decided in the vendor's gallery: the interface carries no rule of ours.
   The operator keeps people out of it who may not be, or sets a constant filter. A kind of agency
   whose rules ask about single records (``ReleaseRule``) cannot be served so and is refused.
3. Only a connection that could not be made is tried again: then nothing was sent. A request that
   may have arrived is not repeated.
4. Whatever comes back is read by ``osia_messages``; what cannot be believed is no answer.
5. Nobody waits beyond the query's deadline, and there are so many calls at once and no more.
6. The token comes from a file that only its owner can read, and is in no message of ours.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Self
from urllib.parse import quote, urlsplit

import httpx
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from agency_adapters.agency import AgencyKind, Record
from agency_adapters.galleries.engines import (
    LOOPBACK,
    EngineSettings,
    config_invalid,
    split_location,
    within,
)
from agency_adapters.galleries.gallery import Eligible, Found, GalleryFacts, Query
from agency_adapters.galleries.osia_callback import Callbacks, Delivery
from agency_adapters.galleries.osia_messages import (
    identify_request,
    read_candidates,
    read_task,
    unbelievable,
)
from trust.errors import ProbegateError, Reason

SCHEMES: Final = MappingProxyType({"osia+https": "https", "osia+http": "http"})
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 1.0
_NO_CONNECTION: Final = (httpx.ConnectError, httpx.ConnectTimeout)


class OsiaSettings(BaseSettings):
    """Settings of a vendor's matcher; each may come from ``PROBEGATE_OSIA_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="PROBEGATE_OSIA_", frozen=True, extra="forbid")

    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    """The template model's id that the matcher understands."""
    dims: Annotated[int, Field(ge=1, le=4096)]
    """The template model's number of dimensions."""
    matcher: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
    """The matcher's name and version, stated with every score."""
    template_format: str
    """The proprietary ``templateFormat`` agreed with the vendor; float32, little-endian."""
    algorithm: str
    """``algorithm`` of the template."""
    vendor: str
    """``vendor`` of the template."""
    count: Annotated[int, Field(ge=0)] = 0
    """How many records the vendor's gallery holds, as its operator states; 0 if not known, and
    then no calibration holds and no size is said."""
    filter: dict[str, Any] = {}
    """The constant ``filter`` sent with every search, a JSON object."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Most attempts to connect."""
    calls: Annotated[int, Field(ge=1, le=256)] = 16
    """Most searches under way at once; another is refused with a time to come back."""
    max_answer_bytes: Annotated[int, Field(ge=1024, le=64 * 2**20)] = 2**20
    """Largest answer taken, bytes."""
    callback_listen: str = ""
    """host:port to take answers by callback at; empty asks for answers in the reply."""
    callback_url: str = ""
    """The address of that listener as the vendor sees it, without a path."""
    callback_cert: Path | None = None
    """The listener's TLS certificate chain, PEM; without it the listener is plain HTTP."""
    callback_key: Path | None = None
    """The private key of that certificate, PEM."""

    @classmethod
    def stated(cls) -> Self:
        """Return what the environment says.

        Raises:
            ProbegateError: ``CONFIG_INVALID``.
        """
        try:
            return cls()
        except ValueError:
            raise config_invalid("PROBEGATE_OSIA_* is missing or out of range") from None


class OsiaGallery:
    """A vendor's gallery. Made by ``open``."""

    def __init__(
        self,
        kind: AgencyKind,
        settings: OsiaSettings,
        timeout_s: float,
        client: httpx.AsyncClient,
        path: str,
        callbacks: Callbacks | None,
    ) -> None:
        self._kind = kind
        self._settings = settings
        self._timeout_s = timeout_s
        self._client = client
        self._path = path
        self._callbacks = callbacks
        self._opened_at = datetime.now(UTC)
        self.load = 0
        """How many searches are under way."""

    @classmethod
    async def open(
        cls,
        location: str,
        kind: AgencyKind,
        engines: EngineSettings,
        osia: OsiaSettings | None = None,
    ) -> Self:
        """Make ready to ask a matcher; nothing is sent yet.

        Args:
            location: ``osia+https://host[:port]/galleryId``; ``osia+http`` on loopback alone.
            kind: whose records the vendor's gallery holds.
            engines: the token's file and the longest wait.
            osia: the matcher's settings; from the environment if it is not given.

        Raises:
            ProbegateError: ``CONFIG_INVALID``, or whatever is wrong with the token's file.
        """
        if kind.release:  # (2)
            raise config_invalid("this kind of agency asks about single records", "kind")
        parts = split_location(location)
        gallery = parts.path.strip("/")
        host = parts.hostname or ""
        if parts.scheme == "osia+http" and host not in LOOPBACK:
            raise config_invalid("plain HTTP is for loopback alone")
        if not host or not gallery or "/" in gallery or parts.query:
            raise config_invalid("osia+https://host/galleryId is expected")
        settings = osia or OsiaSettings.stated()
        token = engines.secret()  # (6)
        client = httpx.AsyncClient(
            base_url=f"{SCHEMES[parts.scheme]}://{parts.netloc}",
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=engines.engine_timeout_s,
            limits=httpx.Limits(max_connections=settings.calls),
            follow_redirects=False,
            trust_env=False,
        )
        callbacks = None
        if settings.callback_listen:
            callbacks = Callbacks(
                settings.callback_listen,
                settings.callback_url,
                settings.max_answer_bytes,
                _tls(settings),
            )
            await callbacks.start()
        path = f"/v1/identify/{quote(gallery, safe='')}"
        return cls(kind, settings, engines.engine_timeout_s, client, path, callbacks)

    @property
    def facts(self) -> GalleryFacts:
        """What the settings say about it (1)."""
        return GalleryFacts(
            kind=self._kind.name,
            model=self._settings.model,
            dims=self._settings.dims,
            count=self._settings.count,
            generation=0,
            changed_at=self._opened_at,
            sha256="",
            matcher=self._settings.matcher,
            exact=False,
            counted=self._settings.count > 0,
            keeps_records=False,
        )

    async def search(self, query: Query) -> Found:
        """Ask the matcher for one probe."""
        if self.load >= self._settings.calls:  # (5)
            raise ProbegateError(Reason.SERVER_BUSY)
        self.load += 1
        latest = asyncio.get_running_loop().time() + self._timeout_s
        deadline = latest if query.deadline is None else min(latest, query.deadline)
        try:
            data = await within(deadline, self._identified(query))
        finally:
            self.load -= 1
        found = read_candidates(data, threshold=query.threshold, limit=query.limit)  # (4)
        return Found(found, self._settings.count)

    async def eligible(self, day: date, switches: frozenset[str]) -> Eligible:
        """Return what the operator states (2)."""
        del day, switches
        met = dict.fromkeys((rule.name for rule in self._kind.eligibility), 0)
        return Eligible(self._settings.count, MappingProxyType(met))

    async def record(self, record_id: str) -> Record | None:
        """Return None: the interface gives candidates, not records; so there are no link tokens."""
        del record_id
        return None

    async def newer(self) -> OsiaGallery | None:
        """Return None: a matcher has no generations."""
        return None

    async def close(self) -> None:
        """Let go of the connections and the listener."""
        await self._client.aclose()
        if self._callbacks is not None:
            await self._callbacks.close()

    async def _identified(self, query: Query) -> bytes:
        transaction = str(uuid.uuid4())
        params = {
            "transactionId": transaction,
            "maxNbCand": str(query.limit),
            "threshold": repr(query.threshold),
        }
        body = json.dumps(
            identify_request(
                query.probe,
                constant_filter=self._settings.filter,
                template_format=self._settings.template_format,
                algorithm=self._settings.algorithm,
                vendor=self._settings.vendor,
            )
        ).encode()
        if self._callbacks is None:
            return await self._posted(params, body, expected=200)
        waiting = self._callbacks.expect(transaction)
        try:
            params["callback"] = self._callbacks.address(waiting)
            task = read_task(await self._posted(params, body, expected=202))
            return _delivered(await waiting.delivery, task)
        finally:
            self._callbacks.forget(waiting)

    async def _posted(self, params: dict[str, str], body: bytes, *, expected: int) -> bytes:
        retrying = AsyncRetrying(  # (3)
            retry=retry_if_exception_type(_NO_CONNECTION),
            stop=stop_after_attempt(self._settings.attempts),
            wait=wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
            reraise=True,
        )
        try:
            return await retrying(self._once, params, body, expected)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProbegateError(Reason.GALLERY_UNAVAILABLE, type(error).__name__) from None

    async def _once(self, params: dict[str, str], body: bytes, expected: int) -> bytes:
        headers = {"content-type": "application/json"}
        async with self._client.stream(
            "POST", self._path, params=params, content=body, headers=headers
        ) as reply:
            if reply.status_code != expected:
                raise _refused(reply.status_code)
            data = bytearray()
            async for part in reply.aiter_bytes():
                data += part
                if len(data) > self._settings.max_answer_bytes:
                    raise unbelievable("longer than is taken")
            return bytes(data)


def _delivered(delivery: Delivery, task: str) -> bytes:
    if delivery.task != task:
        raise unbelievable("taskId")
    if delivery.failed:
        raise ProbegateError(Reason.GALLERY_UNAVAILABLE, "the matcher reports an error")
    return delivery.body


def _refused(status: int) -> ProbegateError:
    match status:
        case 401 | 403:
            why = "the matcher refuses our token"
        case 404:
            return ProbegateError(Reason.GALLERY_MISSING, "the matcher has no such gallery")
        case 400:
            why = "the matcher refuses the request"
        case _:
            why = f"the matcher answers {status}"
    return ProbegateError(Reason.GALLERY_UNAVAILABLE, why)


def _tls(settings: OsiaSettings) -> ssl.SSLContext | None:
    if settings.callback_cert is None:
        host = urlsplit(f"//{settings.callback_listen}").hostname
        if host not in LOOPBACK:
            raise config_invalid("a listener beyond loopback needs a certificate", "callback_cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.callback_cert, settings.callback_key)
    except (OSError, ssl.SSLError):
        raise config_invalid("not a certificate and its key", "callback_cert") from None
    return context
