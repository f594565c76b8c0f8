"""TextWorld: text adventures made by tw-make, on their own engine in a process of its own.

task            what TextWorld tells the rest of the program: the `Task`; its scripted player
game            a game file behind the `Game` protocol; which commands reach it
game_files      where games lie, what their files say, and what is wrong with others
engine          TextWorld in a child process, as its owner sees it
engine_process  the child, which plays a stranger's game with limits
generate        writes new games, each proven on the engine
maker_process   the child that draws and compiles them
prompts         rules and a worked game for general models; the bare game for trained ones
"""
