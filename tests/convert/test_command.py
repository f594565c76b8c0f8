"""`edge-router convert`: the ladder it leaves, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_router.cli.main import main
from edge_router.engine.imatrix import collect, write_imatrix
from edge_router.engine.ladder import Ladder
from edge_router.files.data_files import read_object
from edge_router.ladders.ladder_file import read_details
from edge_router.ladders.resolve import find_ladder
from tests.checkpoints import edit_json, write_checkpoint
from tests.conversions import TIERS, checkpoint, files, home, refused, run
from tests.tiny_gguf import TINY_QWEN3, write_tiny

__all__ = ["checkpoint", "home"]  # fixtures


# -- what it makes ----------------------------------------------------------------------------


def test_a_checkpoint_becomes_a_ladder_that_plays(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "ladder"
    result = run(checkpoint, "--tiers", "q8_0,q3_k_m,q4_k_m", "--out", out)
    assert result.exit_code == 0, result.output
    assert f"edge-router play --model {out}" in result.stdout
    ladder = find_ladder(str(out))
    assert [t.name for t in ladder.tiers] == ["q3_k_m", "q4_k_m", "q8_0"]  # low to high
    assert (ladder.name, ladder.prompt) == ("tiny-qwen3", "react")
    assert set(files(out)) == {"ladder.toml", *(t.path.name for t in ladder.tiers)}
    details = read_details(out)
    for tier in details["tier"]:
        assert tier["sha256"] == files(out)[tier["file"]]
        assert tier["size_bytes"] == (out / tier["file"]).stat().st_size
        assert tier["text"]["kl"] > 0
        assert tier["games"]["perplexity"] > 1
    with Ladder.load(ladder.tiers, n_ctx=256, n_threads=1) as loaded:
        assert loaded.names == ("q3_k_m", "q4_k_m", "q8_0")


def test_the_ladder_plays_with_the_prompt_it_names(checkpoint: Path, tmp_path: Path) -> None:
    """Random weights say nothing sensible; the road from checkpoint to game is what is shown."""
    longer = Path(shutil.copytree(checkpoint, tmp_path / "longer"))
    edit_json(longer / "config.json", lambda data: data.update(max_position_embeddings=8192))
    run(longer, "--tiers", TIERS, "--no-verify", "--out", tmp_path / "ladder")
    command = ["play", "--model", tmp_path / "ladder", "--max-steps", 2, "--threads", 1]
    played = CliRunner().invoke(main, [*map(str, command), "--split", "generated"])
    assert played.exit_code == 0, played.output
    assert "prompt react" in played.stdout
    assert "\n[1] " in played.stdout  # the second step


def test_the_table_shows_what_was_measured(checkpoint: Path, tmp_path: Path) -> None:
    result = run(checkpoint, "--tiers", TIERS, "--out", tmp_path / "ladder")
    lines = result.stdout.splitlines()
    rows = [line.split() for line in lines if line.startswith("q")]
    assert [row[:2] for row in rows] == [["q3_k_m", "text"], ["q8_0", "text"]]
    assert float(rows[0][6]) > float(rows[1][6]) > 0  # KL
    assert float(rows[0][6]) > float(rows[0][7]) > 0  # its standard error
    assert sum(line.split()[:1] == ["games"] for line in lines) == 2
    assert max(len(line) for line in lines if line.startswith(("q", "tier"))) <= 80
    (told,) = [line for line in result.stdout.splitlines() if line.startswith("time: ")]
    phases = ("reading the source", "F16", "q3_k_m", "q8_0", "reading with F16", "q8_0 against F16")
    assert all(re.search(rf"\b{phase} [0-9.]+ s", told) for phase in phases)


def test_tiers_are_compared_anew_where_more_positions_are_asked_for(
    checkpoint: Path, tmp_path: Path
) -> None:
    command = (checkpoint, "--tiers", "q8_0", "--out", tmp_path / "ladder")
    run(*command)
    assert "q8_0 against F16" not in run(*command).stdout
    more = run(*command, "--verify-tokens", 120)
    assert "q8_0 is there already" in more.stderr
    assert "q8_0 against F16" in more.stdout
    assert "(120 tokens)" in more.stdout
    (tier,) = read_details(tmp_path / "ladder")["tier"]
    assert tier["text"]["kl"] > tier["text"]["kl_error"] > 0
    assert "q8_0 against F16" not in run(*command, "--verify-tokens", 120).stdout
    assert run(*command, "--verify-tokens", 99, "--no-verify").exit_code == 2


def test_what_a_gguf_cannot_say_is_reported(checkpoint: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(checkpoint, tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    result = run(bare, "--tiers", "q8_0", "--no-verify", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "has no chat template" in " ".join(result.stderr.split())


def test_without_out_it_goes_home_and_has_a_name(checkpoint: Path, home: Path) -> None:
    result = run(checkpoint, "--tiers", "q8_0", "--no-verify", "--name", "my-model")
    assert result.exit_code == 0, result.output
    assert (home / "cache" / "models" / "my-model" / "ladder.toml").is_file()
    assert find_ladder("my-model").tiers[0].name == "q8_0"
    assert "edge-router play --model my-model" in result.stdout


def test_an_unquantised_gguf_is_a_source_too(tmp_path: Path) -> None:
    shape = replace(TINY_QWEN3, name="household-like", prompt_style="household")
    source = write_tiny(tmp_path, shape)
    result = run(source, "--tiers", TIERS, "--out", tmp_path / "ladder")
    assert result.exit_code == 0, result.output
    assert find_ladder(str(tmp_path / "ladder")).prompt == "household"
    assert source.is_file()


def test_the_f16_file_stays_when_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    run(checkpoint, "--tiers", "q8_0", "--no-verify", "--keep-f16", "--out", tmp_path / "a")
    assert (tmp_path / "a" / "tiny-qwen3-f16.gguf").is_file()
    run(checkpoint, "--tiers", "f16,q8_0", "--no-verify", "--out", tmp_path / "b")
    assert [t.name for t in find_ladder(str(tmp_path / "b")).tiers] == ["q8_0", "f16"]


def test_tensors_that_fell_back_are_counted_in_one_sentence_and_kept_by_name(
    tmp_path: Path,
) -> None:
    folder = write_checkpoint(tmp_path / "narrow", "qwen3", width=160)
    result = run(folder, "--tiers", "q4_k_m", "--no-verify", "--out", tmp_path / "ladder")
    assert result.exit_code == 0, result.output
    told = [line for line in result.stderr.splitlines() if "multiple of" in line]
    assert told == [
        "q4_k_m: 10 of 15 matrices have rows of 160, no multiple of 256: q4_k became q5_0 in 9 "
        "(attn_k, attn_q, attn_v, ffn_gate, ffn_up); q6_k became q8_0 in 1 (attn_v)",
        "q4_k_m: 2 of 15 matrices have rows of 320, no multiple of 256: q4_k became q5_0 in 1 "
        "(ffn_down); q6_k became q8_0 in 1 (ffn_down)",
    ]
    (tier,) = read_details(tmp_path / "ladder")["tier"]
    assert tier["tensors_of_another_type"] == 12
    (kept,) = read_object(tmp_path / "ladder" / ".convert.json", "a journal")["tiers"]
    assert "blk.1.attn_v.weight" in {f["tensor"] for f in kept["fallbacks"]}


# -- importance matrices ----------------------------------------------------------------------


def tiers_of(folder: Path) -> dict[str, str]:
    """Digest of the matrix that each tier was made with."""
    return {t["name"]: t.get("imatrix", "") for t in read_details(folder)["tier"]}


@pytest.mark.parametrize("other", ["mine.txt", pytest.param("auto", marks=pytest.mark.slow)])
def test_tiers_below_q4_are_made_with_the_matrix(
    other: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "mine.txt"
    text.write_text("You see a cabinet 1, and a countertop 1.\n" * 60)
    plain, weighed = tmp_path / "plain", tmp_path / "weighed"
    run(checkpoint, "--tiers", "q2_k,q4_k_m", "--no-verify", "--out", plain)
    result = run(
        checkpoint, "--tiers", "q2_k,q4_k_m", "--imatrix", text, "--no-verify", "--out", weighed
    )
    assert result.exit_code == 0, result.output
    digest = hashlib.sha256(text.read_bytes()).hexdigest()
    assert tiers_of(weighed) == {"q2_k": digest, "q4_k_m": ""}
    assert tiers_of(plain) == {"q2_k": "", "q4_k_m": ""}
    assert files(plain)["tiny-qwen3-q4_k_m.gguf"] == files(weighed)["tiny-qwen3-q4_k_m.gguf"]
    assert files(plain)["tiny-qwen3-q2_k.gguf"] != files(weighed)["tiny-qwen3-q2_k.gguf"]
    again = run(checkpoint, "--tiers", "q2_k", "--imatrix", other, "--no-verify", "--out", plain)
    assert "is there already" not in again.stderr  # another matrix makes another tier
    assert tiers_of(plain) == {"q2_k": "auto-1" if other == "auto" else digest}


def test_a_tier_that_needs_a_matrix_gets_one(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "ladder"
    result = run(checkpoint, "--tiers", "q2_k_s,q8_0", "--no-verify", "--out", out)
    assert result.exit_code == 0, result.output
    assert "q2_k_s cannot be made without an importance matrix" in result.stderr
    assert tiers_of(out) == {"q2_k_s": "auto-1", "q8_0": ""}
    assert not list(out.glob(".*imatrix*"))


def test_a_matrix_from_a_file_is_used_and_must_fit(checkpoint: Path, tmp_path: Path) -> None:
    f16 = write_tiny(tmp_path)
    matrix = collect(f16, [list(range(3, 400))], threads=1)
    write_imatrix(matrix, tmp_path / "m.gguf")
    result = run(f16, "--tiers", "q2_k", "--imatrix", tmp_path / "m.gguf", "--out", tmp_path / "a")
    assert result.exit_code == 0, result.output
    other = write_tiny(tmp_path, replace(TINY_QWEN3, name="wider", ffn=1024))
    said = refused(
        other, "--tiers", "q2_k", "--imatrix", tmp_path / "m.gguf", "--out", tmp_path / "b"
    )
    assert "is the importance matrix of another model (tensor blk.0.ffn_down.weight)" in said


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe\x00binary", "is neither a text nor an importance matrix"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "but a git-lfs pointer"),
        (b"GGUFxxxx", "is no importance matrix"),
    ],
)
def test_what_is_no_matrix_is_refused(
    content: bytes | None, why: str, checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "matrix"
    if content is not None:
        file.write_bytes(content)
    said = refused(checkpoint, "--tiers", "q2_k", "--imatrix", file, "--out", tmp_path / "out")
    assert why in said


# -- a second run -----------------------------------------------------------------------------


def test_finished_tiers_are_not_made_again(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "ladder"
    run(checkpoint, "--tiers", "q8_0", "--out", out)
    before = (out / "tiny-qwen3-q8_0.gguf").stat().st_mtime_ns
    result = run(checkpoint, "--tiers", TIERS, "--out", out)
    assert "q8_0 is there already" in result.stderr
    assert (out / "tiny-qwen3-q8_0.gguf").stat().st_mtime_ns == before
    assert [t.name for t in find_ladder(str(out)).tiers] == ["q3_k_m", "q8_0"]
    again = run(checkpoint, "--tiers", TIERS, "--out", out)
    assert again.stdout.splitlines()[:4] == result.stdout.splitlines()[:4]


def test_a_tier_that_was_damaged_is_made_again(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "ladder"
    run(checkpoint, "--tiers", "q8_0", "--no-verify", "--out", out)
    wanted = files(out)
    (out / "tiny-qwen3-q8_0.gguf").write_bytes(b"GGUF")
    run(checkpoint, "--tiers", "q8_0", "--no-verify", "--out", out)
    assert files(out) == wanted


def test_another_checkpoint_does_not_go_into_the_same_folder(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ladder"
    run(checkpoint, "--tiers", "q8_0", "--no-verify", "--out", out)
    before = files(out)
    other = write_checkpoint(tmp_path / "other", "qwen3", seed=1)
    assert "holds tiers of another checkpoint" in refused(other, "--out", out)
    (out / ".convert.json").unlink()
    assert "holds a ladder already" in refused(checkpoint, "--out", out)
    assert files(out) == before


# -- what it refuses --------------------------------------------------------------------------


def test_a_tier_that_lost_the_model_fails(checkpoint: Path, tmp_path: Path) -> None:
    """The journal says of another model's tier that it was made here, as a fault of ours would."""
    out = tmp_path / "ladder"
    run(checkpoint, "--tiers", "q8_0", "--no-verify", "--out", out)
    other = write_checkpoint(tmp_path / "other", "qwen3", seed=1)
    run(other, "--tiers", "q8_0", "--no-verify", "--name", "tiny-qwen3", "--out", tmp_path / "b")
    shutil.copy(tmp_path / "b" / "tiny-qwen3-q8_0.gguf", out)
    wrong = files(out)["tiny-qwen3-q8_0.gguf"]
    edit_json(out / ".convert.json", lambda journal: journal["tiers"][0].update(sha256=wrong))
    (out / "ladder.toml").unlink()
    assert "the tier q8_0 has lost the model" in refused(
        checkpoint, "--tiers", "q8_0", "--out", out
    )
    assert not (out / "ladder.toml").exists()


def test_unknown_tiers_are_refused_with_those_there_are(checkpoint: Path, tmp_path: Path) -> None:
    said = refused(checkpoint, "--tiers", "q8_0,q9_x", "--out", tmp_path / "out")
    assert "there is no tier 'q9_x'; choose from f16, q4_0, q8_0" in said
    assert "--tiers names no tier" in refused(checkpoint, "--tiers", ",", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: p / "absent", "there is no checkpoint folder"),
        (lambda p: p, "is not a Hugging Face checkpoint"),
        (lambda p: p / "absent.gguf", "does not exist"),
    ],
)
def test_what_is_no_source_is_refused(
    make: Callable[[Path], Path], why: str, tmp_path: Path
) -> None:
    assert why in refused(make(tmp_path), "--out", tmp_path / "out")


def test_a_quantised_gguf_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    run(checkpoint, "--tiers", "q8_0", "--no-verify", "--out", tmp_path / "a")
    quantised = tmp_path / "a" / "tiny-qwen3-q8_0.gguf"
    assert "is quantised already (Q8_0)" in refused(quantised, "--out", tmp_path / "b")


def test_an_unknown_prompt_style_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    said = refused(checkpoint, "--prompt", "poem", "--out", tmp_path / "out")
    assert "there is no prompt style 'poem' for alfworld; styles are household, react" in said


def test_a_missing_package_names_the_extra(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    said = refused(checkpoint, "--out", tmp_path / "out")
    assert "needs the package gguf" in said
    assert "edge-router[convert]" in said


def test_a_folder_that_cannot_be_made_is_reported(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refused(checkpoint, "--out", tmp_path / "file" / "out")
    assert "is a file; name another" in said


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A folder that not even root can write to."""
    folder = tmp_path / "unwritable"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    done = subprocess.run(["chattr", "+i", str(folder)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("this file system has no immutable folders")
    yield folder
    subprocess.run(["chattr", "-i", str(folder)], check=True)


def test_a_folder_without_permission_is_reported(checkpoint: Path, unwritable: Path) -> None:
    for out in (unwritable, unwritable / "below"):
        said = refused(checkpoint, "--out", out)
        assert "cannot be " in said
        assert "ermi" in said  # "Permission denied" or "Operation not permitted"
    assert list(unwritable.iterdir()) == []
