"""ALFWorld: household games in text, on its real engine or in the in-process simulator.

task              what ALFWorld tells the rest of the program: the `Task`
game              games behind the `Game` protocol: on the real engine, or simulated
engine            the part of TextWorld that plays, without the rest of it
engine_speed      spares the engine work that it repeats
expressions       what a game's grammar may compute; nothing in a game is run as Python
game_files        where games lie, and which can be played
generate          writes new games, each proven on the real engine
household_prompt  the embedded model's short prompt
react_prompt      rules and a worked game (react_examples.json) for general models
tuned_prompt      the engine's sentences alone, for models fine-tuned on the games
calibration       whole games as chats, for conversions
"""
