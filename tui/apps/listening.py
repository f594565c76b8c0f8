"""What the apps have in common that hear events of other threads, and steer a router."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, ClassVar, Protocol

from textual import on
from textual.binding import Binding, BindingType

from edge_router.router.steered import SteeredRouter
from tui.apps.frame import Frame
from tui.draw.panels import PrecisionStrip, SoFar
from tui.state.episode import Episode

# How often it is looked whether something has happened, and the seconds between two frames at
# least. More often would take processor time from a model that decodes on the same cores: a frame
# with a line of new text costs 2 ms, one with all panels 6 to 8.
LOOKS_PER_SECOND = 8
FRAME_SECONDS = 0.24
DIAL_STEP = 0.05


class Steered(Protocol):
    """What writes steps elsewhere, by a router that somebody may overrule."""

    router: SteeredRouter
    dial: float


class ListeningApp(Frame):
    """An app on something that goes on by itself: `happened` is filled by other threads."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "force(0)", "Next step by the low tier"),
        Binding("h", "force(-1)", "Next step by the high tier"),
        *(Binding(str(i), f"force({i - 1})", f"Next step by tier {i}", show=False)
          for i in range(1, 10)),
        Binding("a", "auto", "The router decides again"),
        Binding("left", "dial(-1)", "Dial: towards cost"),
        Binding("right", "dial(1)", "Dial: towards quality"),
        Binding("left_square_bracket", "look(-1)", "Look a step back"),
        Binding("right_square_bracket", "look(1)", "Look a step on"),
    ]  # fmt: skip
    UNIT = "step"  # what is routed

    def __init__(self) -> None:
        super().__init__()
        self.happened: deque[Any] = deque()
        self._drawn = 0.0  # when the last frame was
        self._looking: asyncio.TimerHandle | None = None

    # -- what an app of this kind says of itself -------------------------------------

    @property
    def steered(self) -> Steered:
        """What the keys steer."""
        raise NotImplementedError

    @property
    def now(self) -> Episode:
        """What has happened, up to the newest."""
        raise NotImplementedError

    def take_in(self, event: Any) -> None:
        """Something of `happened`, in the screen's thread."""
        raise NotImplementedError

    def is_text(self, event: Any) -> bool:
        """Whether an event changes nothing on the screen but the newest text."""
        raise NotImplementedError

    def has_news(self) -> bool:
        """Whether the screen is no longer up to date."""
        return bool(self.happened)

    def may(self, action: str) -> bool:
        """Whether the action has an effect now; says why where it has none."""
        raise NotImplementedError

    def look_at(self, step: int) -> None:
        """Show step `step` of those that are shown, as it was; beyond the last, the newest."""
        raise NotImplementedError

    def back_to_newest(self) -> bool:
        """Leave the earlier step; False when none was looked at."""
        raise NotImplementedError

    # -- hearing ---------------------------------------------------------------------

    def on_mount(self) -> None:  # Textual calls those of the classes above and below by itself
        self._look_again()

    def on_unmount(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    def _look_again(self) -> None:
        """Textual's own timer takes 0.3 ms a tick, this 0.05."""
        self._looking = asyncio.get_running_loop().call_later(
            1 / LOOKS_PER_SECOND, self._look_again
        )
        if self.has_news() and time.monotonic() >= self._drawn + FRAME_SECONDS:
            self.call_next(self.catch_up)

    def catch_up(self) -> None:
        """Take in what has happened since the last frame, and draw it at once."""
        self._drawn = time.monotonic()
        count = len(self.happened)  # others may add to them meanwhile
        text_only = all(self.is_text(self.happened[i]) for i in range(count))
        for _ in range(count):
            self.take_in(self.happened.popleft())
        self.show(text_only=text_only)

    def hear_the_rest(self) -> None:
        """Take in what has happened since the last frame, when there is no screen any more."""
        while self.happened:
            self.take_in(self.happened.popleft())

    # -- actions -----------------------------------------------------------------------

    def action_force(self, tier: int) -> None:
        if not self.may("force"):
            return
        tiers, router = self.now.tiers, self.steered.router
        count = len(tiers)
        if not -count <= tier < count:
            noun = "tier" if count == 1 else "tiers"
            self.say(f"There is no tier {tier + 1}: this model has {count} {noun}.")
            return
        self.back_to_newest()
        if router.forced == tier % count:
            self.say(f"The next {self.UNIT} is {tiers[tier]}'s already.")
        router.forced = tier % count
        self.show()

    def action_auto(self) -> None:
        if not self.may("auto"):
            return
        if self.steered.router.forced is None:
            self.say(f"The router decides already; no {self.UNIT} is forced.")
        self.steered.router.forced = None
        self.show()

    def action_dial(self, direction: int) -> None:
        self._set_dial(self.steered.dial + direction * DIAL_STEP)

    @on(SoFar.DialSet)
    def _dial_clicked(self, event: SoFar.DialSet) -> None:
        self._set_dial(event.value)

    def _set_dial(self, value: float) -> None:
        if not self.may("dial"):
            return
        steered = self.steered
        before, steered.dial = steered.dial, round(min(1.0, max(0.0, value)), 2)
        if not steered.router.heeds_dial:
            self.say("This router has no dial.")
        elif before == steered.dial:
            self.say(f"The dial is at its end, {before:.2f}.")
        else:
            self.say(f"Dial {steered.dial:.2f}, from cost (0) to quality (1).")
        self.show()

    def action_look(self, direction: int) -> None:
        """Show the step before (-1) or after (1) the one on screen."""
        raise NotImplementedError

    @on(PrecisionStrip.Picked)
    def _step_clicked(self, event: PrecisionStrip.Picked) -> None:
        if self.may("look"):
            self.look_at(event.step)
