"""The orders this force sent: what its results are later verified against.

An order holds names and reasons, so its file is its owner's alone (0600). It is written before the
order is sent, so that no answer can come to an order that is forgotten. It is forgotten once its
own time is over: what was found is gone by then, and a saved search holds its order itself.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from force_client.orders import SignedOrder, reopen_order
from trust import files
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason

REMEMBERED: Final = 4096
"""Most orders kept in memory."""
_END: Final = ".dsse.json"


class OrderBook:
    """Orders by request id, and which search each became.

    Args:
        folder: where the orders are kept; None keeps them in memory alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._by_request: OrderedDict[str, SignedOrder] = OrderedDict()

    def keep(self, order: SignedOrder) -> None:
        """Keep an order; call it off the event loop, it waits for the disk.

        Raises:
            ProbegateError: ``ORDER_REPLAYED`` if another order has this request id; ``DISK_FULL``
                or ``FILE_UNWRITABLE``.
        """
        request_id = order.order.request_id
        if self._folder is not None:
            path = self._path(self._folder, request_id)
            if not path.exists():
                files.write_private(path, order.envelope.to_json())
            elif files.read(path) != order.envelope.to_json():
                raise ProbegateError(Reason.ORDER_REPLAYED, field="request_id")
        self._remember(order)

    def find(self, request_id: str) -> SignedOrder:
        """Return an order by its request id.

        Raises:
            ProbegateError: ``FILE_MISSING`` if it is not kept here; ``ORDER_INVALID`` or
                ``ENVELOPE_INVALID`` if its file is damaged.
        """
        if request_id in self._by_request:
            return self._by_request[request_id]
        if self._folder is None:
            raise ProbegateError(
                Reason.FILE_MISSING, "the order is not kept, so its result cannot be verified"
            )
        path = self._path(self._folder, request_id)
        order = reopen_order(Envelope.from_json(files.read(path)))
        self._remember(order)
        return order

    def forget(self, before: datetime) -> int:
        """Delete the orders that were made before an instant; return how many.

        A file's time says which to open; then what the order says counts, unless it is damaged.
        What a client that was killed had begun to write goes with them.

        Raises:
            ProbegateError: ``FILE_UNWRITABLE``.
        """
        if self._folder is None or not self._folder.is_dir():
            return 0
        forgotten = files.sweep_folder(self._folder, before)
        for path in files.older(self._folder, f"*{_END}", before):
            if _made_before(path, before):
                path.unlink(missing_ok=True)
                self._by_request.pop(path.name.removesuffix(_END), None)
                forgotten += 1
        return forgotten

    def _remember(self, order: SignedOrder) -> None:
        self._by_request[order.order.request_id] = order
        while len(self._by_request) > REMEMBERED:
            self._by_request.popitem(last=False)

    @staticmethod
    def _path(folder: Path, request_id: str) -> Path:
        try:
            name = str(UUID(request_id))  # a broker's text never becomes a path
        except ValueError:
            raise ProbegateError(Reason.RESULT_INVALID, check="request_id") from None
        return folder / f"{name}{_END}"


def _made_before(path: Path, instant: datetime) -> bool:
    try:
        return reopen_order(Envelope.from_json(files.read(path))).order.created_at < instant
    except ProbegateError:
        return True  # it is old and says nothing that could be verified
