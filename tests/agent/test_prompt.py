"""Chat templates, prompt styles and the growing prompt, on a real vocabulary."""

from __future__ import annotations

import hashlib
from multiprocessing import get_context

import pytest

from edge_router.agent.jinja_template import ConfinedTemplate
from edge_router.agent.prompt import Prompt
from edge_router.agent.template import CHATML, KNOWN, ChatTemplate
from edge_router.engine.gguf_file import read_header
from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError
from edge_router.ladders.resolve import find_ladder
from edge_router.tasks.alfworld.household_prompt import HouseholdStyle, compact, compact_opening
from edge_router.tasks.alfworld.react_prompt import ReactStyle
from edge_router.tasks.protocol import Message, Opening
from edge_router.tasks.registry import find_task, style_for
from tests.tiny_gguf import write_tiny

OPENING = Opening("You see a desk 1, and a bed 1.", "put some pen on desk.")
# as Qwen3's template does: an empty reasoning block before the answer, none in the history
FORGETFUL = CHATML.replace(
    "assistant\n{% endif %}", "assistant\n<think>\n\n</think>\n\n{% endif %}"
)


@pytest.fixture(scope="module")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> LlamaModel:
    return LlamaModel.load(write_tiny(tmp_path_factory.mktemp("prompt")), use_mmap=False)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def play(prompt: Prompt, vocab: LlamaModel, steps: int) -> list[str]:
    said = [f"thought {i}\n> go to desk {i}" for i in range(steps)]
    for i, text in enumerate(said):
        prompt.add(vocab.tokenize_after(text), text, user(f"reply {i}"))
    return said


def rendered(
    vocab: LlamaModel, template: ChatTemplate, said: list[str], skip: int = 0
) -> list[int]:
    """The conversation rendered and tokenised at once, without `skip` steps after the first."""
    messages = [user("opening")]
    for i, text in enumerate(said):
        if not 1 <= i <= skip:
            messages += [{"role": "assistant", "content": text}, user(f"reply {i}")]
    return vocab.tokenize(template.render(messages))


@pytest.mark.parametrize("source", [CHATML, FORGETFUL])
def test_the_growing_prompt_equals_the_conversation_rendered_at_once(
    vocab: LlamaModel, source: str
) -> None:
    template = ChatTemplate(source)
    prompt = Prompt(template, vocab, [user("opening")])
    said = play(prompt, vocab, 4)
    assert prompt.tokens == rendered(vocab, template, said)


def test_a_stable_template_keeps_every_earlier_token(vocab: LlamaModel) -> None:
    prompt = Prompt(ChatTemplate(CHATML), vocab, [user("opening")])
    before = list(prompt.tokens)
    play(prompt, vocab, 1)
    assert prompt.tokens[: len(before)] == before


def test_the_tokens_the_model_wrote_are_kept_even_if_spelled_unusually(vocab: LlamaModel) -> None:
    prompt = Prompt(ChatTemplate(CHATML), vocab, [user("opening")])
    before = len(prompt.tokens)
    letters = [t for c in "> look" for t in vocab.tokenize_after(c)]
    assert letters != vocab.tokenize_after("> look")
    prompt.add(letters, "> look", user("reply"))
    assert prompt.tokens[before : before + len(letters)] == letters


@pytest.mark.parametrize("said", [" a thought\n> look", "> look\n", ""])
def test_white_space_around_an_answer_costs_no_token(vocab: LlamaModel, said: str) -> None:
    """The template shows answers without it; the cache holds what was written."""
    prompt = Prompt(ChatTemplate(CHATML), vocab, [user("opening")])
    for _ in range(2):
        before, written = list(prompt.tokens), vocab.tokenize(said)
        prompt.add(written, said, user("reply"))
        assert prompt.tokens[: len(before) + len(written)] == before + written


def test_a_forgetful_template_costs_the_newest_turn_alone(vocab: LlamaModel) -> None:
    prompt = Prompt(ChatTemplate(FORGETFUL), vocab, [user("opening")])
    play(prompt, vocab, 1)
    lead = len(vocab.tokenize("<|im_start|>assistant\n<think>\n\n</think>\n\n"))
    for i in range(3):
        stays = prompt.tokens[:-lead]
        prompt.add(vocab.tokenize("> look"), "> look", user(f"reply {i}"))
        assert prompt.tokens[: len(stays)] == stays


REWRITING = "{{ messages|length }} messages\n" + CHATML  # nothing of it is a prefix of the next


def test_a_template_that_rewrites_everything_is_rendered_anew(vocab: LlamaModel) -> None:
    template = ChatTemplate(REWRITING)
    prompt = Prompt(template, vocab, [user("opening")])
    said = play(prompt, vocab, 6)
    assert prompt.tokens == rendered(vocab, template, said)
    assert prompt.drop_oldest(len(prompt.tokens) - 1)[0] == 1
    assert prompt.tokens == rendered(vocab, template, said, skip=1)


def test_the_lead_is_the_text_right_before_the_answer(vocab: LlamaModel) -> None:
    template = ChatTemplate(FORGETFUL)
    prompt = Prompt(template, vocab, [user("opening")])
    assert prompt.lead == template.render([user("opening")])
    assert prompt.lead.endswith("</think>\n\n")


@pytest.mark.parametrize("source", [CHATML, FORGETFUL])
def test_the_oldest_turns_after_the_first_are_dropped_whole(vocab: LlamaModel, source: str) -> None:
    template = ChatTemplate(source)
    prompt = Prompt(template, vocab, [user("opening")])
    said = play(prompt, vocab, 6)
    whole = len(prompt.tokens)
    turns, tokens = prompt.drop_oldest(whole - 1)
    assert (turns, tokens) == (1, whole - len(prompt.tokens))
    assert prompt.tokens == rendered(vocab, template, said, skip=1)


def test_opening_first_step_and_newest_turn_are_never_dropped(vocab: LlamaModel) -> None:
    template = ChatTemplate(CHATML)
    prompt = Prompt(template, vocab, [user("opening")])
    said = play(prompt, vocab, 6)
    turns, _ = prompt.drop_oldest(1)
    assert turns == 4
    assert prompt.tokens == rendered(vocab, template, said, skip=4)
    assert prompt.drop_oldest(1) == (0, 0)


def test_nothing_is_dropped_while_there_is_room(vocab: LlamaModel) -> None:
    prompt = Prompt(ChatTemplate(CHATML), vocab, [user("opening")])
    play(prompt, vocab, 6)
    assert prompt.drop_oldest(len(prompt.tokens)) == (0, 0)


def test_a_template_that_never_ends_is_stopped() -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    late = "{% if messages|length > 1 %}" + endless + "{% else %}once{% endif %}"
    template = ConfinedTemplate(late, seconds=0.3)
    assert template.render({"messages": [user("x")]}) == "once"
    with pytest.raises(UserError, match=r"chat template computes for more than 0\.3 s"):
        template.render({"messages": [user("x"), user("y")]})
    assert template.render({"messages": [user("x")]}) == "once"


def test_a_process_that_was_forked_asks_a_template_of_its_own() -> None:
    template = ConfinedTemplate("{{ messages[0].content }} {{ messages[0].role }}")
    asker = template._child
    assert asker is not None
    context = get_context("fork")
    told = context.SimpleQueue()

    def ask(text: str) -> None:
        said = template.render({"messages": [user(text)]})
        told.put((said, template._child is asker))

    others = [context.Process(target=ask, args=(text,)) for text in ("a", "b")]
    for other in others:
        other.start()
    answers = sorted(told.get() for _ in others)
    for other in others:
        other.join()
    assert answers == [("a user", False), ("b user", False)]
    assert template.render({"messages": [user("c")]}) == "c user"
    assert template._child is asker


@pytest.mark.parametrize(
    "source",
    ["{{ 'a' * 3000000000 }}", "{{ messages[0].content * 3000000000 }}",
     "{{ 'a'|center(3000000000) }}"],
)  # fmt: skip
def test_a_template_that_eats_memory_is_stopped(source: str) -> None:
    with pytest.raises(UserError, match="chat template takes more than 512 MB of memory"):
        ChatTemplate(source).render([user("x")])


def test_a_template_that_writes_without_measure_is_stopped() -> None:
    with pytest.raises(UserError, match="chat template writes more than 4000000 letters"):
        ChatTemplate("{{ 'a' * 5000000 }}").render([user("x")])


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in b %}" * 30 + "{% endfor %}" * 30,  # too deep for Python's compiler
        "{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ '%c' % 1114112 }}",
        r"{{ '\ud800' }}",
        "{{ 'x'.encode('nonesuch') }}",
    ],
)
def test_whatever_python_says_of_a_template_becomes_a_sentence(source: str) -> None:
    with pytest.raises(UserError, match="chat template") as error:
        ChatTemplate(source).render([user("x")])
    assert "\n" not in str(error.value)


def test_the_embedded_models_template_needs_no_process_of_its_own() -> None:
    header = read_header(find_ladder("household").tiers[0].path)
    source = header.metadata["tokenizer.chat_template"]
    assert hashlib.sha256(source.encode()).hexdigest() in KNOWN


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    with pytest.raises(UserError, match="chat template"):
        ChatTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}").render([user("x")])


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ raise_exception('no system role') }}", "{{ 1 / 0 }}"]
)
def test_a_template_that_fails_is_told_in_one_sentence(source: str) -> None:
    with pytest.raises(UserError, match="chat template") as error:
        ChatTemplate(source).render([user("x")])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        CHATML,
        FORGETFUL,
        "{{ bos_token }}{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}"
        "{{ m | tojson }}{{ messages | tojson(indent=2) }}{% endfor %}",
        "{% if tools is none %}none{% endif %}{{ strftime_now('%Y') }}",
        "  {% for m in messages %}\n  {{ m.content }}\n  {% endfor %}\n",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    ],
)
@pytest.mark.parametrize("lead", [True, False])
def test_templates_render_as_transformers_renders_them(source: str, lead: bool) -> None:
    theirs = pytest.importorskip("transformers.utils.chat_template_utils")
    messages = [user("ä <b>"), {"role": "assistant", "content": "> look"}, user("x")]
    ((expected,), _) = theirs.render_jinja_template(
        [messages], chat_template=source, add_generation_prompt=lead, bos_token="<s>"
    )
    assert ChatTemplate(source, bos="<s>").render(messages, lead=lead) == expected


def test_a_gguf_names_its_prompt_style() -> None:
    assert isinstance(
        style_for(find_task(), {"edge_router.prompt_style": "household"}), HouseholdStyle
    )
    assert isinstance(style_for(find_task(), {}), ReactStyle)


@pytest.mark.parametrize(
    ("said", "short"),
    [
        ("You arrive at desk 1. On the desk 1, you see a pen 2, and a cd 1.",
         "at desk 1: pen 2 cd 1"),
        ("You arrive at safe 1. The safe 1 is closed.", "at safe 1: closed"),
        ("You open the safe 1. The safe 1 is open. In it, you see nothing.", "at safe 1: nothing"),
        ("On the desk 1, you see a pen 2.", "at desk 1: pen 2"),
        ("You pick up the pen 2 from the desk 1.", "took pen 2 from desk 1"),
        ("You move the pen 2 to the desk 1.", "moved pen 2 to desk 1"),
        ("You heat the egg 1 using the microwave 1.", "heated egg 1 with microwave 1"),
        ("You turn on the desklamp 1.", "used desklamp 1"),
        ("You close the safe 1.", "at safe 1: closed"),
        ("Nothing happens.", "nothing happens"),
        ("You are carrying: a pen 2.", "You are carrying: a pen 2."),
        ("There's nothing special about pen 2.", "There's nothing special about pen 2."),
    ],
)  # fmt: skip
def test_replies_are_put_short_for_the_embedded_model(said: str, short: str) -> None:
    assert compact(said) == short


def test_the_opening_lists_the_room_in_the_games_order() -> None:
    assert compact_opening(OPENING) == "task: put some pen on desk.\nroom: desk 1 bed 1"


RULES = "Here are the rules of a game, which are the same for all.\n\n"
SHARED = [user("an example"), {"role": "assistant", "content": "> look"}, user(RULES)]


@pytest.mark.parametrize("source", [CHATML, FORGETFUL])
def test_the_opening_is_what_prompts_of_other_games_begin_with(
    vocab: LlamaModel, source: str
) -> None:
    template = ChatTemplate(source)
    one, other = (
        Prompt(template, vocab, [*SHARED[:2], user(RULES + own)], shared=SHARED)
        for own in ("You see a desk 1.", "A room. You see a bed 2.")
    )
    assert one.opening == other.opening
    opening = one.tokens[: one.opening]
    assert opening == other.tokens[: other.opening]
    assert vocab.detokenize(opening).endswith("for all.\n\n")
    play(one, vocab, 3)
    one.drop_oldest(1)
    assert one.tokens[: one.opening] == opening


def test_a_token_over_the_border_is_not_part_of_the_opening(vocab: LlamaModel) -> None:
    begin, word = "rules rules rules ", "cabinet"
    tokens = vocab.tokenize(word)
    split = next(i for i in range(1, len(word)) if vocab.tokenize(word[:i]) != tokens[:i])
    shared, whole = begin + word[:split], begin + word
    prompt = Prompt(ChatTemplate(CHATML), vocab, [user(whole)], shared=[user(shared)])
    assert 0 < prompt.opening < len(vocab.tokenize(ChatTemplate(CHATML).render([user(shared)])))
    assert prompt.tokens == vocab.tokenize(ChatTemplate(CHATML).render([user(whole)]))


def test_a_template_that_rewrites_everything_has_no_opening_in_the_end(vocab: LlamaModel) -> None:
    template = ChatTemplate(REWRITING)
    prompt = Prompt(template, vocab, [user(RULES + "You see a desk 1.")], shared=[user(RULES)])
    assert prompt.opening > 0
    play(prompt, vocab, 1)
    assert prompt.opening == 0


def test_a_template_that_refuses_the_beginning_alone_gives_no_opening(vocab: LlamaModel) -> None:
    picky = "{% if messages|length < 2 %}{{ raise_exception('too few') }}{% endif %}" + CHATML
    messages = [user(RULES), {"role": "assistant", "content": "> look"}, user("go on")]
    assert Prompt(ChatTemplate(picky), vocab, messages, shared=messages[:1]).opening == 0
    assert Prompt(ChatTemplate(CHATML), vocab, messages, shared=messages[:1]).opening > 0


def test_general_models_share_rules_and_the_worked_game_of_a_type(vocab: LlamaModel) -> None:
    style, template = ReactStyle(), ChatTemplate(CHATML)

    def opening(observation: str, goal: str) -> str:
        game = Opening(observation, goal)
        prompt = Prompt(template, vocab, style.opening(game), shared=style.shared(game))
        return vocab.detokenize(prompt.tokens[: prompt.opening])

    one = opening("You see a desk 1.", "put some pen on desk.")
    other = opening("You see a shelf 3, and a bed 1.", "put some book on bed.")
    assert one == other
    assert one.endswith("Here is a new game.\n\n")
    assert opening("You see a desk 1.", "put a clean mug in cabinet.") != one
