"""Pick a game from a split: type to narrow the list down, Enter plays."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from edge_router.screen.printable import one_line
from edge_router.tasks.games import GameRef

RANDOM = "random"
KINDS = {
    "look_at_obj_in_light": "look at in light",
    "pick_and_place_simple": "put",
    "pick_clean_then_place_in_recep": "clean and put",
    "pick_cool_then_place_in_recep": "cool and put",
    "pick_heat_then_place_in_recep": "heat and put",
    "pick_two_obj_and_place": "put two",
}


class GamePicker(ModalScreen[GameRef | None]):
    """Dismissed with the game, or None."""

    CSS = """
    GamePicker { align: center middle; }
    GamePicker > Vertical {
        width: 90%; max-width: 110; height: 80%; border: round $primary; background: $surface;
    }
    GamePicker Input { margin: 0 1; }
    GamePicker OptionList { height: 1fr; border: none; background: $surface; }
    """
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Close"),
        Binding("down", "into_list", "To the list", show=False),
    ]

    def __init__(self, games: Sequence[GameRef], current: GameRef) -> None:
        super().__init__()
        self._games = games
        self._current = current

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Pick a game   (type to search, Enter plays, Esc closes)"
            field = Input(placeholder="for example: clean apple, or a number")
            field.cursor_blink = False
            yield field
            yield OptionList()

    def on_mount(self) -> None:
        self._fill("")

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        self._fill(event.value)

    @on(Input.Submitted)
    def _first(self) -> None:
        options = self.query_one(OptionList)
        if options.option_count:
            options.action_select()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        wanted = event.option.id or RANDOM
        self.dismiss(random.choice(self._games) if wanted == RANDOM else self._games[int(wanted)])

    def action_cancel(self) -> None:
        self.dismiss(None)

    def action_into_list(self) -> None:
        self.query_one(OptionList).focus()

    def _fill(self, text: str) -> None:
        words = text.lower().split()
        options = [] if words else [Option("     any of them, drawn at random", RANDOM)]
        for index, game in enumerate(self._games):
            name = described(game)
            haystack = f"{index} {game.id} {name}".lower()
            if all(word in haystack for word in words):
                options.append(Option(Text(f"{index:4d}  {name}"), str(index)))
        listed = self.query_one(OptionList)
        listed.clear_options()
        listed.add_options(options)
        ids = [option.id for option in options]
        current = str(self._games.index(self._current)) if self._current in self._games else ""
        listed.highlighted = ids.index(current) if current in ids else 0 if ids else None


def described(game: GameRef) -> str:
    """A game's name as a person would say it: "clean and put  SoapBar, CounterTop (room 430)"."""
    kind, _, rest = game.id.partition("/")[0].partition("-")
    what = KINDS.get(kind, kind)
    parts = [part for part in rest.split("-") if part != "None"]
    room = f"  (room {parts.pop()})" if parts and parts[-1].isdigit() else ""
    return one_line(f"{what:17} {', '.join(parts)}{room}")
