"""The sheets of a policies run: who wins, what it costs, task by task, and how games were lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge_router.results.file import Row
from edge_router.results.statistics import escalation_rate, number
from edge_router.screen.printable import wrapped
from edge_router.screen.tables import Sheet

SHOWN: Final = 10  # games that the summary names
WALL: Final = "median wall s"


def policy_summary(data: Mapping[str, Any]) -> list[Sheet]:
    """One table that fits a terminal: won, escalated, seconds, and how it compares with high."""
    rows: Sequence[Row] = data["tables"]["policies"]
    if data["settings"].get("grown"):
        return [_grown_summary(data)]
    key, heading = _time_shown(rows)
    against = _against(data)
    scored = any(r.get("score") for r in rows)
    columns = ["router", "won", "95 %", *(["score %"] if scored else [])]
    columns += ["escalated %", heading, against]
    if _held_against(rows):
        columns.append("against the router")
    names = names_of(rows)
    cells = [
        (
            *(name, f"{r['won']}/{r['games']}", _percent(r["success"])),
            *([_value(r.get("score"), ".0%").rstrip("%")] if scored else []),
            *(_escalated(r), _time(r.get(key), ".1f" if key == "steps" else ".2f")),
            _games_against(r["against_high"]),
            *([_games_against(r["against_router"])] if _held_against(rows) else []),
        )
        for name, r in zip(names, rows, strict=True)
    ]
    return [Sheet("Games won, and what a game takes", tuple(columns), cells)]


def _time_shown(rows: Sequence[Row]) -> tuple[str, str]:
    """(key, heading) of the column that says what a game takes.

    A game's wall seconds are what its player waits for, so they come first where every row has
    them; games that were played beside each other waited for one another, so there the estimate
    does, where there is one.
    """
    played = [r for r in rows if r["how"] != "expert"]
    times = {"wall_s": WALL, "estimated_s": "estimated s", "measured_s": "model s"}
    order = ("estimated_s", "wall_s", "measured_s") if _side_by_side(rows) else (*times,)
    key = next((k for k in order if all(r.get(k) for r in played)), "steps")
    return key, times.get(key, key)


def _time(found: Mapping[str, float] | None, form: str) -> str:
    """An estimate's value, or the median of wall seconds."""
    return "" if found is None else format(found.get("value", found.get("median", 0.0)), form)


def _ways(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """How seconds were measured: (games at once, threads of each), all ways that occur."""
    return sorted({tuple(way) for r in rows for way in r["measured_with"]})


def _side_by_side(rows: Sequence[Row]) -> bool:
    """Whether the measured seconds cannot be compared: games shared the machine, or not alike."""
    ways = _ways(rows)
    return len(ways) > 1 or any(jobs > 1 for jobs, _ in ways)


def _against(data: Mapping[str, Any]) -> str:
    return f"against {data['settings'].get('against', 'high')}"


def _grown_summary(data: Mapping[str, Any]) -> Sheet:
    """What a ladder that costs what a large model does wins, and in which seconds."""
    rows: Sequence[Row] = data["tables"]["policies"]
    columns = (
        *("router", "won", "95 %", "escal. %", WALL, "quartiles", "times as fast"),
        *("95 %", "same actions", _against(data)),
    )
    cells = []
    for name, r in zip(names_of(rows), rows, strict=True):
        wall, fast, same = r["wall_s"], r["times_as_fast"], r["same_actions"]
        games = (name, f"{r['won']}/{r['games']}", _percent(r["success"]), _escalated(r))
        took = _seconds(wall["median"], wall["q1"], wall["q3"], ".1f") if wall else ("", "")
        times = _seconds(fast["value"], fast["low"], fast["high"], ".2f") if fast else ("", "")
        alike = f"{100 * same['value']:.0f} %" if same else ""
        cells.append((*games, *took, *times, alike, _games_against(r["against_high"])))
    return Sheet("Games won, and the seconds that a game takes", columns, cells)


def _seconds(value: float, low: float, high: float, form: str) -> tuple[str, str]:
    return format(value, form), f"{low:{form}}-{high:{form}}"


def names_of(rows: Sequence[Row]) -> list[str]:
    """What each row is called, with its KV mode where there are several."""
    several = len({r["kv"] for r in rows if r["kv"]}) > 1
    return [f"{r['row']} ({r['kv']})" if several and r["kv"] else str(r["row"]) for r in rows]


def _held_against(rows: Sequence[Row]) -> bool:
    """Whether the rows are compared with one router, besides the high tier."""
    return any("against_router" in row for row in rows)


def _percent(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['low']:.0f}-{100 * estimate['high']:.0f}"


def _escalated(row: Row) -> str:
    """The share of the steps that the low tier did not write."""
    unknown = row["how"] == "alone" or next(iter(row["share"].values()), None) is None
    return "" if unknown else f"{100 * escalation_rate(row):.1f}"


def _value(estimate: Mapping[str, float] | None, form: str) -> str:
    return "" if estimate is None else format(estimate["value"], form)


def _games_against(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"+{found['only_this']} -{found['only_reference']}"


def differing_games(data: Mapping[str, Any], *, full: bool, width: int) -> list[str]:
    """Lines that name the games which some routers won and others lost, and who did."""
    rows = [r for r in data["tables"]["policies"] if r["how"] != "expert" and r.get("each")]
    games: Sequence[str] = data["settings"].get("game_ids", [])
    outcomes = list(zip(games, *(r["each"] for r in rows), strict=False)) if rows else []
    differ = [(game, won) for game, *won in outcomes if len(set(won)) > 1]
    if not differ:
        return []
    names = names_of(rows)
    lines = [f"Games that some won and others lost: {len(differ)} of {len(games)}"]
    for game, won in differ if full else differ[:SHOWN]:
        lines += wrapped(game, width, indent="  ")
        by = {w: ", ".join(n for n, x in zip(names, won, strict=True) if x is w) for w in won}
        lines += wrapped(f"won by {by[True]}; lost by {by[False]}", width, indent="    ")
    if not full and len(differ) > SHOWN:
        lines.append(f"  and {len(differ) - SHOWN} more, which --full names")
    return lines


def policy_sheets(data: Mapping[str, Any]) -> list[Sheet]:
    """All sheets of a results file of the kind "policies"."""
    rows: Sequence[Row] = data["tables"]["policies"]
    sheets = [_success(rows), _cost(rows), *_verified_by(rows), _by_kind(rows)]
    return [*sheets, _losses(rows)] if any(row["failures"] for row in rows) else sheets


def _success(rows: Sequence[Row]) -> Sheet:
    others = ["high", *(["the router"] if _held_against(rows) else [])]
    columns = [*("router", "kv", "won", "won % (95 %)")]
    for other in others:
        columns += [f"against {other}, points (95 %)", f"only it / only {other}", "p"]
    cells = [
        (
            *(r["row"], r["kv"], f"{r['won']}/{r['games']}", number(r["success"], scale=100)),
            *(cell for other in others for cell in _versus(r, other.removeprefix("the "))),
        )
        for r in rows
    ]
    return Sheet("Games won", tuple(columns), cells, 2)


def _versus(row: Row, other: str = "high") -> tuple[str, str, str]:
    found = row[f"against_{other}"]
    if found is None:
        return ("", "", "")
    return (
        number(found["difference"], "+.1f", 100),
        f"{found['only_this']}/{found['only_reference']}",
        f"{found['p_value']:.2g}",
    )


def _cost(rows: Sequence[Row]) -> Sheet:
    tiers = list(rows[0]["share"]) if rows else []
    profiles = list(rows[0].get("seconds", {})) if rows else []
    # Results of older versions have none of these.
    verified = any(r.get("acceptance") for r in rows)
    timed = any(r.get("wall_s") for r in rows)
    columns = (
        *("router", "kv", *(f"% {tier}" for tier in tiers), "steps", "% refused"),
        *(
            "decoded",
            "prefilled",
            *(_VERIFIED if verified else ()),
            *((WALL,) if timed else ()),
            "model s",
            "estimated s",
            *(f"s, {name}" for name in profiles),
        ),
    )
    cells = [
        (
            *(r["row"], r["kv"], *(number(r["share"][tier], ".1f", 100) for tier in tiers)),
            *(number(r["steps"]), number(r["refused"], ".1f", 100)),
            *(number(r["decoded_tokens"], ".0f"), number(r["prefilled_tokens"], ".0f")),
            *(_accepted(r) if verified else ()),
            *((_wall(r.get("wall_s")),) if timed else ()),
            *(number(r["measured_s"], ".2f"), number(r["estimated_s"], ".2f")),
            *(number(r["seconds"][name], ".2f") for name in profiles),
        )
        for r in rows
    ]
    return Sheet("A game on average: steps by tier, tokens, seconds (95 %)", columns, cells, 2)


def _wall(found: Mapping[str, float] | None) -> str:
    """ "4.82 (3.83-6.44)": median and quartiles."""
    return "" if found is None else f"{found['median']:.2f} ({found['q1']:.2f}-{found['q3']:.2f})"


_VERIFIED: Final = ("drafted", "accepted", "% accepted", "rewritten")


def _accepted(row: Row) -> tuple[str, ...]:
    """Tokens a game that a higher tier was given as drafts, and what became of them."""
    return (
        number(row.get("drafted_tokens"), ".0f"),
        number(row.get("accepted_tokens"), ".0f"),
        number(row.get("acceptance"), ".1f", 100),
        number(row.get("rewritten_tokens"), ".0f"),
    )


def _verified_by(rows: Sequence[Row]) -> list[Sheet]:
    """What became of drafts at each tier; nothing where one tier alone verifies."""
    several = [r for r in rows if len(r.get("verified_by", ())) > 1]
    cells = [
        (r["row"], r["kv"], tier, *_accepted(found))
        for r in several
        for tier, found in r["verified_by"].items()
    ]
    columns = ("router", "kv", "verified by", *_VERIFIED)
    return [Sheet("Drafts, tokens a game (95 %)", columns, cells, 3)] if several else []


def _by_kind(rows: Sequence[Row]) -> Sheet:
    kinds = sorted({kind for r in rows for kind in r["by_kind"]})
    cells = [
        (name, *(_of_kind(r, kind) for kind in kinds))
        for name, r in zip(names_of(rows), rows, strict=True)
    ]
    columns = ("router", *(kind.replace("_", " ") for kind in kinds))
    return Sheet("Games won by task type", columns, cells)


def _of_kind(row: Row, kind: str) -> str:
    found = row["by_kind"].get(kind)
    return f"{found['won']}/{found['games']}" if found else ""


def _losses(rows: Sequence[Row]) -> Sheet:
    classes = sorted({name for r in rows for name in r["failures"]})
    cells = [
        (r["row"], r["kv"], *(str(r["failures"].get(name, "")) for name in classes)) for r in rows
    ]
    return Sheet("Games lost, by class", ("router", "kv", *classes), cells, 2)


def tier_sheets(data: Mapping[str, Any]) -> list[Sheet]:
    """All sheets of a results file of the kind "tiers"."""
    rows: Sequence[Row] = data["tables"]["tiers"]
    columns = (
        *("tier alone", "won", "won % (95 %)", "against high, points (95 %)"),
        *("only it / only high", "p"),
        *("steps", "% refused", "KL/token", "% text differs", "% action differs"),
    )
    cells = [
        (
            *(r["router"], f"{r['won']}/{r['games']}", number(r["success"], scale=100)),
            *(*_versus(r), number(r["steps"]), number(r["refused"], scale=100), *_distance(r)),
        )
        for r in rows
    ]
    sheets = [Sheet("Each tier alone, and its distance from the high tier", columns, cells)]
    sheets.append(_by_kind(rows))
    return [*sheets, _losses(rows)] if any(row["failures"] for row in rows) else sheets


def _distance(row: Row) -> tuple[str, str, str]:
    found = row["distance"]
    if found is None:
        return ("", "", "")
    return (
        number(found["kl_per_token"], ".5f"),
        number(found["text_differs"], ".1f", 100),
        number(found["action_differs"], ".1f", 100),
    )


def tier_summary(data: Mapping[str, Any]) -> list[Sheet]:
    """One table that fits a terminal: won, and how often the tier differs from the high one."""
    rows: Sequence[Row] = data["tables"]["tiers"]
    columns = (
        *("tier alone", "won", "95 %", "against high", "KL/token"),
        *("% text differs", "% action differs"),
    )
    cells = []
    for r in rows:
        found = r["distance"] or {}
        cells.append(
            (
                *(r["router"], f"{r['won']}/{r['games']}", _percent(r["success"])),
                *(_games_against(r["against_high"]), _value(found.get("kl_per_token"), ".5f")),
                *(_share(found.get(key)) for key in ("text_differs", "action_differs")),
            )
        )
    return [Sheet("Each tier alone, and its distance from the high tier", columns, cells)]


def _share(estimate: Mapping[str, float] | None) -> str:
    return "" if estimate is None else f"{100 * estimate['value']:.1f}"


def tier_notes(data: Mapping[str, Any]) -> list[str]:
    """Crashes."""
    rows: Sequence[Row] = data["tables"]["tiers"]
    crashes = sorted({crash for r in rows for crash in r["crashes"]})
    return [f"crashed, counted as not won: {crash}" for crash in crashes]


def _threads_each(threads: int) -> str:
    return f"{threads} threads each" if threads else "threads that follow the machine"


def _estimated(rows: Sequence[Row]) -> bool:
    return any(r["estimated_s"] for r in rows)


def policy_notes(data: Mapping[str, Any]) -> list[str]:
    """What a reader must know: crashes, seconds taken side by side, missing costs."""
    rows: Sequence[Row] = data["tables"]["policies"]
    crashes = sorted({crash for r in rows for crash in r["crashes"]})
    notes = [f"crashed, counted as not won: {crash}" for crash in crashes]
    notes += [f"{r['row']}: {r['note']}" for r in rows if r["note"]]
    if _side_by_side(rows):
        ways = ", ".join(
            f"{jobs} game{'s' * (jobs > 1)} at once with {_threads_each(n)}"
            for jobs, n in _ways(rows)
        )
        better = "compare the estimated ones" if _estimated(rows) else "they do not compare"
        notes.append(f"measured seconds come from {ways}: {better}")
    if grown := data["settings"].get("grown"):
        notes.insert(0, str(grown))
    elif not data["settings"].get("costs"):
        notes.append("no estimated seconds: run edge-router calibrate for this model first")
    if predicted := data["settings"].get("costs_predicted"):
        notes.append(f"estimated seconds are predicted, not measured: {predicted}")
    return notes
