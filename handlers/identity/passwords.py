"""Passwords: refused when weak, peppered, hashed by argon2id in a few threads with a bounded queue.

The pepper is a key outside the database: HMAC-SHA256(pepper, NFKC password) is what argon2id sees, so a stolen table
alone can not be searched. Parameters: OWASP Password Storage Cheat Sheet, ASVS 5.0 appendix C.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

import zxcvbn
from argon2 import PasswordHasher as Argon2
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import Type

from handlers.identity import rules
from handlers.identity.rules import PasswordsBusy, PasswordWeak

SAFE_SCORE = 3  # of zxcvbn: above 10^8 guesses
SCORED_LENGTH = 40  # zxcvbn takes the square of the length, on a public endpoint
# zxcvbn tries every reading of each such sign, which takes long; one reading is enough to find a word.
_READ_SIGNS = str.maketrans("@({[<|!$+%&", "acccclistxg")
_scoring = threading.Lock()  # zxcvbn keeps the words of the caller in a module variable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """How much work a hash is. Raising it takes effect for each user at the next sign-in."""

    memory_kib: int = 47104
    time_cost: int = 1
    parallelism: int = 1


def ensure_strong(password: str, *, known: Sequence[str]) -> None:
    """Raises PasswordWeak for a password that is short, or common, or made of what an attacker tries first.

    `known` are words that somebody who aims at this user would try: address, name, service. Only the first 40
    code points count. Takes milliseconds of processor time.
    """
    rules.ensure_long_enough(password)
    text = rules.normal_password(password)[:SCORED_LENGTH].translate(_READ_SIGNS)
    with _scoring:
        result = zxcvbn.zxcvbn(text, user_inputs=[word.translate(_READ_SIGNS) for word in known])
    if result["score"] < SAFE_SCORE:
        raise PasswordWeak("guessable", result["feedback"]["warning"] or "This is easy to guess.")


class PasswordHasher:
    """Hashes in `workers` threads, no more than cores; `queue_limit` more may wait, the next is refused."""

    def __init__(self, *, pepper: bytes, workers: int, queue_limit: int, cost: Argon2Cost) -> None:
        if len(pepper) < 32:
            raise ValueError("the password pepper needs at least 32 bytes")
        self._pepper = pepper
        self._argon2 = Argon2(
            time_cost=cost.time_cost, memory_cost=cost.memory_kib, parallelism=cost.parallelism, type=Type.ID
        )
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="identity-argon2")
        self._places = threading.BoundedSemaphore(workers + queue_limit)
        self._nobodys = self._argon2.hash(self._peppered(""))

    async def hash_new(self, password: str, *, known: Sequence[str]) -> str:
        """The hash of a password that somebody chose. Raises PasswordsBusy, and what `ensure_strong` does."""

        def work() -> str:
            ensure_strong(password, known=known)
            return self._argon2.hash(self._peppered(password))

        return await self._run(work)

    async def hash_again(self, password: str) -> str:
        """The hash of a password that was accepted before. Raises PasswordsBusy."""
        return await self._run(lambda: self._argon2.hash(self._peppered(password)))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Tell whether it is the password; with no hash, False after the same work. Raises PasswordsBusy."""
        return await self._run(lambda: self._matches(password, stored))

    def is_outdated(self, stored: str) -> bool:
        """Tell whether a hash was made with other parameters than now."""
        return self._argon2.check_needs_rehash(stored)

    def close(self) -> None:
        """Let running hashes end and the threads with them."""
        self._pool.shutdown(cancel_futures=True)

    def _matches(self, password: str, stored: str | None) -> bool:
        try:
            self._argon2.verify(stored or self._nobodys, self._peppered(password))
        except VerifyMismatchError:
            return False
        return stored is not None

    def _peppered(self, password: str) -> bytes:
        digest = hmac.digest(self._pepper, rules.normal_password(password).encode(), sha256)
        return base64.b64encode(digest)

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise PasswordsBusy
        job: Future[T] = self._pool.submit(work)
        # The place is free when the thread is, also when the caller has gone away meanwhile.
        job.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(job)
