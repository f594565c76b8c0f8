"""How many threads a decode runs on: measured while it runs, because a laptop is never idle.

llama.cpp's threads wait for each other after every operation, hundreds of times a token. When
another program takes the core of one of them, all the others wait for it, spinning: on a busy
machine two threads write a token several times slower than one, and on an idle machine one
thread writes it slower than two. A very small model is fastest on one thread everywhere. No
fixed number is right, so the number follows the machine (docs/measurements.md has the table):

- `Machine` tells how many processors other programs take, four times a second;
- `ThreadControl` keeps, for each number of cores that are left and for each size of batch,
  what a token took on each number of threads, and tries another number now and then.

How threads wait (libgomp's spinning) is left alone: a wait that sleeps soon was measured to
cost an idle machine up to four fifths of its speed and to save a busy one nothing against
the right number of threads. The number changes no result: each output is computed by one
thread, whichever it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import psutil

from edge_router.engine.machine import physical_cores

_WINDOW: Final = 0.25  # seconds over which the machine's load is taken
_TAKEN: Final = 0.3  # of a processor that others may use before it counts as taken
_MEMORY: Final = 0.3  # seconds of decoding over which the speed in use is averaged
_TRIAL: Final = 0.03  # seconds that a trial lasts ...
_HOPELESS: Final = 2.0  # ... unless a token takes this many times as long
_SHORT: Final = 0.005  # seconds; the first call on new threads counts only if it takes longer
_LONG: Final = 0.25  # seconds; a call that takes longer is never tried on other threads
_FIRST: Final = 0.5  # seconds of decoding before the first trial
# ... and before more threads are tried than others leave cores for: in a container the counters
# may be the host's. On a machine that is really crowded one such token was seen to take 1.6 s, so
# it is only tried while this thread is let run for nearly all of the time it asks for.
_FIRST_BEYOND: Final = 4.0
_UNDISTURBED: Final = 0.9
# What a trial lost is made up for this many times before the next one: at most 1 % is lost.
_PATIENCE: Final = 100.0
_PAUSES: Final = (0.3, 60.0)  # seconds between two trials, at least and at most
# The share of the time in use that a trial must stay under, on fewer threads and on more.
_GAINS: Final = (0.98, 0.96)
# Multiplications of a call below which a second thread does not pay; a first guess only.
_SMALL_WORK: Final = 50e6


class Machine:
    """What other programs take of the processors, from the system's own counters."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._others = 0.0
        self._busy, self._own, self._wall = _processor_times()

    def others(self) -> float:
        """Processors' worth of time that other programs took in the last quarter of a second."""
        if time.monotonic() - self._wall >= _WINDOW:
            busy, own, wall = _processor_times()
            taken = (busy - self._busy) - (own - self._own)
            self._others = max(0.0, taken / (wall - self._wall))
            self._busy, self._own, self._wall = busy, own, wall
        return self._others

    def left(self) -> int:
        """Cores that others leave to this process, at least 1."""
        return max(1, self.cores - max(0, math.ceil(self.others() - _TAKEN)))


def _processor_times() -> tuple[float, float, float]:
    """Seconds of all processors in use, of this process, and of the clock."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # in user time too
    return sum(times) - guests - idle, time.process_time(), time.monotonic()


@cache
def this_machine() -> Machine:
    """The one sensor of this process."""
    return Machine(physical_cores())


@dataclass
class Choice:
    """The best number of threads for calls of one size, while as many cores are left.

    `choose` before a call, `took` after it; both want the clock's time in seconds.
    """

    numbers: tuple[int, ...]  # that may be tried
    best: int
    left: int  # cores that others leave
    cost: dict[int, float] = field(default_factory=dict)  # seconds a token
    running: float = 1.0  # share of a call's time that its thread was let run
    _spent: float = 0.0  # seconds of all calls
    _due: float = -math.inf
    _turn: int = 0
    _trial: int | None = None
    _last: int = 0
    _last_seconds: float = 0.0
    _tokens: int = 0  # of the trial, as are the seconds
    _seconds: float = 0.0

    def choose(self, now: float) -> int:
        """The number of threads for the next call."""
        if self._trial is None and self._may_try(now):
            candidates = self._candidates()
            self._trial = candidates[self._turn % len(candidates)]
            self._turn += 1
            self._tokens, self._seconds = 0, 0.0
        return self.best if self._trial is None else self._trial

    def _may_try(self, now: float) -> bool:
        return (
            now >= self._due
            and self.best in self.cost
            and self._last_seconds < _LONG
            and bool(self._candidates())
        )

    def _candidates(self) -> list[int]:
        """Other numbers whose time for a trial has come."""
        return [
            n for n in self.numbers if n != self.best and (self._fits(n) or self._may_go_beyond())
        ]

    def _fits(self, number: int) -> bool:
        return number <= self.left and self._spent >= _FIRST

    def _may_go_beyond(self) -> bool:
        return self._spent >= _FIRST_BEYOND and self.running >= _UNDISTURBED

    def took(self, number: int, tokens: int, seconds: float, own: float, now: float) -> None:
        """A call on `number` threads ended at `now`; its thread was let run for `own` seconds."""
        # 1. The first call on another number of threads pays for making or waking them.
        changed, self._last = number != self._last, number
        if changed and seconds < _SHORT:
            return  # the threads were just made or woken
        # 2. A trial ends when it has run long enough to be believed, or earlier when it is so slow
        # that more of it would only be felt.
        if number == self._trial:
            self._tokens, self._seconds = self._tokens + tokens, self._seconds + seconds
            hopeless = self._seconds > _HOPELESS * self._tokens * self.cost[self.best]
            if self._seconds >= _TRIAL or (hopeless and self._seconds >= _SHORT):
                self._end_trial(number, now)
            return
        # 3. The best number's cost follows the machine: a mean that forgets old calls by their
        # seconds, so that a long call counts as many short ones.
        self._spent += seconds
        self._last_seconds = seconds
        each = seconds / tokens
        known = self.cost.get(number, each)
        weight = -math.expm1(-seconds / _MEMORY)
        self.cost[number] = known + (each - known) * weight
        self.running += (min(1.0, own / max(seconds, 1e-9)) - self.running) * weight

    def _end_trial(self, number: int, now: float) -> None:
        self.cost[number] = self._seconds / self._tokens
        lost = self._seconds - self._tokens * self.cost[self.best]
        if self.cost[number] < _GAINS[number > self.best] * self.cost[self.best]:
            self.best = number
        shortest, longest = _PAUSES
        self._due = now + min(max(shortest, _PATIENCE * lost), longest)
        self._trial = None


class ThreadControl:
    """Chooses the threads of one context's decodes.

    `work` is how many multiplications a token takes, about the model's parameters; `limit` is
    the largest number of threads, by default the machine's physical cores.
    """

    def __init__(
        self,
        work: float,
        limit: int | None = None,
        machine: Machine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.machine = machine or this_machine()
        self.limit = min(limit or self.machine.cores, self.machine.cores)
        self._work = work
        self._clock = clock
        self._choices: dict[tuple[int, int], Choice] = {}
        self._now: Choice | None = None

    def choose(self, tokens: int) -> int:
        """Threads for a call of so many tokens."""
        if self.limit == 1:
            return 1
        left = min(self.machine.left(), self.limit)
        key = (left, tokens.bit_length())  # batches of 1, 2-3, 4-7, ... tokens
        self._now = self._choices.get(key) or self._begin(key, tokens)
        return self._now.choose(self._clock())

    def _begin(self, key: tuple[int, int], tokens: int) -> Choice:
        left, _ = key
        numbers = tuple(sorted({1, max(1, left // 2), left, self.limit}))
        first = 1 if self._work * tokens < _SMALL_WORK else left
        self._choices[key] = Choice(numbers, first, left)
        return self._choices[key]

    def took(self, number: int, tokens: int, seconds: float, own: float) -> None:
        """What the call took that was chosen for last.

        `own` is how long the calling thread was let run, of its processor time; llama.cpp and
        PyTorch count it as one of theirs.
        """
        if self._now is not None:
            self._now.took(number, tokens, seconds, own, self._clock())
