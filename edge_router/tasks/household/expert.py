"""A scripted player that uses only what it has been told.

It reads the same sentences as a model does, keeps a memory of what it saw and
follows one fixed plan: receptacle kinds in the order of how likely they hold
the wanted kind (`facts`), within a kind the order of the room's listing. Every
step comes with a short thought that names the fact it rests on, because the
embedded language model learns from these thoughts: each action can be looked
up in the context (the next place is what follows the last searched place in
the plan). Places visited on other errands are not skipped: a second visit is
simpler than a rule that needs the set of visited places. The next step depends
on the sentences so far alone, so the expert can also say what it would do in
an episode that somebody else plays.

    expert = Expert(opening); thought, action = expert.act(); expert.observe(reply, action)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from edge_router.tasks.household.facts import search_order
from edge_router.tasks.household.rules import KINDS, REFUSED, TREATMENTS, GameKind
from edge_router.tasks.household.world import ENTITY, kind_of
from edge_router.tasks.protocol import Opening

PLAN_LIMIT = 40  # longer than a 50-step episode can visit
_TREATED = tuple(f"You {verb} " for verb in TREATMENTS)


@dataclass(frozen=True)
class Wish:
    """A goal, understood: kinds of things, not their numbers."""

    object: str
    target: str  # where the object belongs, or the lamp
    kind: GameKind


def understand(goal: str) -> Wish:
    """Read one of ALFWorld's goals; raises ValueError for any other sentence."""
    for kind in KINDS.values():
        for pattern in _patterns(kind):
            if match := pattern.search(goal):
                return Wish(match["o"], match["r"], kind)
    raise ValueError(f"not one of ALFWorld's goals: {goal!r}")


@cache
def _patterns(kind: GameKind) -> tuple[re.Pattern[str], ...]:
    """The forms of a kind's goals; which article and which preposition says nothing."""
    patterns = []
    for goal in kind.goals:
        form = goal.removesuffix(".").format(o=r"(?P<o>\w+)", r=r"(?P<r>\w+)")
        form = re.sub(r"\b(a|some) ", "(?:a|some) ", form)
        form = re.sub(r" (in|on) (?=\()", " (?:in|on) ", form)
        patterns.append(re.compile(form))
    return tuple(patterns)


def plan_for(wanted: str, room: list[str]) -> list[str]:
    """The receptacles in the order in which to search them for `wanted`."""
    order = {kind: rank for rank, kind in enumerate(search_order(wanted))}
    ranked = sorted(room, key=lambda name: order.get(kind_of(name), len(order)))
    return ranked[:PLAN_LIMIT]


@dataclass
class Memory:
    """What the player knows from the replies so far."""

    at: str = ""  # the receptacle it stands at, as last named
    closed: bool = False  # that receptacle is closed
    delivered: bool = False  # the last thing done was to put something down
    holding: str = ""
    taken_from: str = ""
    treated: set[str] = field(default_factory=set)
    seen: dict[str, str] = field(default_factory=dict)  # item -> receptacle, oldest first
    placed: dict[str, str] = field(default_factory=dict)  # wanted items in the destination
    refused: bool = False


class Expert:
    """Plays one episode from its sentences alone."""

    def __init__(self, opening: Opening) -> None:
        self.wish = understand(opening.goal)
        self.room = ENTITY.findall(opening.observation)
        self.plan = plan_for(self.wish.object, self.room)
        self.memory = Memory()
        self.destination = next((r for r in self.room if kind_of(r) == self.wish.target), "")
        self.last_action = ""
        self.started = False

    # -- reading ----------------------------------------------------------

    def observe(self, reply: str, action: str) -> None:
        """Take in the environment's answer to `action` (whoever chose it)."""
        m = self.memory
        self.last_action = action
        m.refused = reply == REFUSED
        if m.refused:
            return
        entities = ENTITY.findall(reply)
        if reply.startswith("You pick up"):
            m.holding, m.taken_from, m.delivered = entities[0], entities[1], False
            m.seen.pop(m.holding, None)
        elif reply.startswith("You move"):
            self._moved(entities[0], entities[1])
        elif reply.startswith(_TREATED):
            m.treated.add(entities[0])
        elif "you see" in reply or reply.endswith("is closed."):
            self._saw(reply, entities)

    def _moved(self, item: str, place: str) -> None:
        m = self.memory
        m.holding, m.delivered = "", True
        m.seen.pop(item, None)
        if kind_of(item) == self.wish.object and place == self.destination:
            m.placed[item] = place
        else:
            m.seen[item] = place

    def _saw(self, reply: str, entities: list[str]) -> None:
        m = self.memory
        if not entities or reply.startswith("You are facing"):
            return
        m.at, m.closed, m.delivered = entities[0], reply.endswith("is closed."), False
        for item in entities[1:]:
            if item in (m.at, m.holding) or item in m.placed:
                continue
            m.seen.pop(item, None)
            m.seen[item] = m.at
            self._choose_destination(item)

    def _choose_destination(self, item: str) -> None:
        """A two-object task starts where one of the objects already lies."""
        m, wish = self.memory, self.wish
        if wish.kind.count == 2 and kind_of(item) == wish.object:
            if kind_of(m.at) == wish.target and not m.placed:
                self.destination = m.at
            if m.at == self.destination:
                m.placed[item] = m.at
                m.seen.pop(item, None)

    # -- deciding ---------------------------------------------------------

    def act(self) -> tuple[str, str]:
        """The next thought and action."""
        m = self.memory
        if not self.started:
            self.started = True
            return "plan: " + " ".join(self.plan), f"go to {self.plan[0]}"
        if m.refused and self.last_action.startswith("go to "):
            place = self.last_action.removeprefix("go to ")
            if place in self.room:
                return f"here {place}", f"examine {place}"
        if m.holding:
            if kind_of(m.holding) != self.wish.object:
                return self._bring(m.taken_from, f"wrong {m.holding} to {m.taken_from}")
            return self._use_held()
        return self._find(self.wish.object)

    def _use_held(self) -> tuple[str, str]:
        m, wish = self.memory, self.wish
        if wish.kind.in_light:
            return self._light()
        treatment = wish.kind.treatment
        if treatment is not None and m.holding not in m.treated:
            station = next((r for r in self.room if kind_of(r) == treatment.station), "")
            thought = f"{treatment.verb} {m.holding} with {station}"
            return thought, (thought if m.at == station else f"go to {station}")
        return self._bring(self.destination, f"bring {m.holding} to {self.destination}")

    def _bring(self, place: str, thought: str) -> tuple[str, str]:
        m = self.memory
        if m.at != place:
            return thought, f"go to {place}"
        if m.closed:
            return thought, f"open {place}"
        return thought, f"move {m.holding} to {place}"

    def _light(self) -> tuple[str, str]:
        m = self.memory
        lamp = next((i for i in m.seen if kind_of(i) == self.wish.target), "")
        if not lamp:
            return self._search(self.wish.target)
        place = m.seen[lamp]
        thought = f"see {lamp} on {place}"
        return thought, (f"use {lamp}" if m.at == place else f"go to {place}")

    def _find(self, kind: str) -> tuple[str, str]:
        m = self.memory
        known = [item for item in m.seen if kind_of(item) == kind]
        if not known:
            return self._search(kind)
        item = next((i for i in known if m.seen[i] == m.at), known[0])
        place = m.seen[item]
        thought = f"see {item} on {place}"
        if m.at != place:
            return thought, f"go to {place}"
        return thought, (f"open {place}" if m.closed else f"take {item} from {place}")

    def _search(self, kind: str) -> tuple[str, str]:
        """On to the next place of the plan.

        The last searched place is where the player stands or, when it has just
        put something down, where it had taken that from.
        """
        m = self.memory
        if m.closed and not m.delivered:
            return f"closed {m.at}", f"open {m.at}"
        searched = m.taken_from if m.delivered else m.at
        following = self.plan.index(searched) + 1 if searched in self.plan else 0
        place = self.plan[following] if following < len(self.plan) else self.plan[0]
        return f"no {kind} {searched}".rstrip(), f"go to {place}"
