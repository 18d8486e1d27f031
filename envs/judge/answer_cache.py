"""A judge's answers by what it was asked: a bounded table, in memory or in a file."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5.0  # while another process writes to the file


class AnswerCache:
    """Answers by key, of which the oldest are forgotten. One thread at a time may use it.

    Several processes may share a file. A file that can no longer be used costs requests, not
    verdicts: it is told once.
    """

    def __init__(self, entries: int, file: str | None = None) -> None:
        """Opens the table, and makes it if there is none.

        Args:
            entries: How many answers are kept.
            file: A file of SQLite; None: memory.

        Raises:
            ValueError: If the file cannot be used; one line.
        """
        self._entries = entries
        self._has_failed = False
        path = ":memory:" if file is None else str(Path(file).expanduser())
        try:
            self._table = sqlite3.connect(
                path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
            )
            # Losing the last answers in a power failure is no harm.
            self._table.execute("PRAGMA synchronous = OFF")
            self._table.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, answer TEXT)"
            )
        except sqlite3.Error as error:
            raise ValueError(
                f"cache_file={file!r}: cannot be used ({error}); name a file of its own in a "
                "folder that can be written to"
            ) from None

    def get(self, key: str) -> str | None:
        """Returns the answer, or None."""
        try:
            row = self._table.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._tell(error)
            return None
        return row[0] if row and isinstance(row[0], str) else None

    def put(self, key: str, answer: str) -> None:
        """Keeps an answer, and forgets the oldest one if there are too many."""
        try:
            with self._table:
                inserted = self._table.execute(
                    "INSERT OR REPLACE INTO answers (key, answer) VALUES (?, ?)", (key, answer)
                )
                oldest = (inserted.lastrowid or 0) - self._entries
                self._table.execute("DELETE FROM answers WHERE number <= ?", (oldest,))
        except sqlite3.Error as error:
            self._tell(error)

    def close(self) -> None:
        """Closes the table."""
        self._table.close()

    def _tell(self, error: sqlite3.Error) -> None:
        if not self._has_failed:
            logger.warning("the cache of a judge's answers cannot be used: %s (said once)", error)
        self._has_failed = True
