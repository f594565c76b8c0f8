"""A game as a function of the actions so far, whatever was asked before."""

from __future__ import annotations

from edge_router.tasks.protocol import Game, Opening, Reply


class Replies:
    """Answers for one game. Going on where the last question ended costs one step of the game,
    anything else a reset and all steps up to there; answers are remembered."""

    def __init__(self, game: Game) -> None:
        self._game = game
        self.opening: Opening = game.reset()
        self._played: tuple[str, ...] = ()
        self._known: dict[tuple[str, ...], Reply] = {}

    def after(self, actions: tuple[str, ...]) -> Reply:
        """The reply to the last of `actions`; all before it have been played first."""
        known = self._known.get(actions)
        if known is not None:
            return known
        if actions[: len(self._played)] != self._played or len(actions) == len(self._played):
            self._game.reset()
            self._played = ()
        while len(self._played) < len(actions):
            reply = self._game.step(actions[len(self._played)])
            self._played = actions[: len(self._played) + 1]
            self._known[self._played] = reply
        return self._known[actions]

    def close(self) -> None:
        self._game.close()
