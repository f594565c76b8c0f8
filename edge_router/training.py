"""What training does where nobody says otherwise: the commands' help shows it, `train` takes it.

It stands apart because help must not load PyTorch, which the modules that train need.
"""

from __future__ import annotations

from typing import Final

# A router's training; these make the shipped one.
STAGES: Final = ("collect", "sft", "grpo", "export", "evaluate")
TRAIN_GAMES: Final = 1200
SELECT_GAMES: Final = 500
TEST_GAMES: Final = 400
ITERATIONS: Final = 150  # of GRPO
JOBS: Final = 2
# From recorded chats: an answer's tokens at most, and processes, for whose models are large.
MAX_TOKENS: Final = 128
PROMPT_JOBS: Final = 1

# A language model's.
LORA_RANK: Final = 16
ADAPTER_RATE: Final = 1e-3  # learning rates; adapters bear a higher one
FULL_RATE: Final = 1e-4
# Its GRPO's; docs/fine-tuning.md says where they come from.
GRPO_GAMES: Final = 16  # of an iteration
GRPO_GROUP_SIZE: Final = 8  # episodes of a game
GRPO_TEMPERATURE: Final = 1.0
GRPO_CLIP_RANGE: Final = 0.2
GRPO_KL_COEFFICIENT: Final = 0.04
