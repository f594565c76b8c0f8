"""Results of benchmarks: the file, its tables, pictures and page.

file           the results file: written, read back, older ones too
machine        the machine that figures belong to, and how it is told
statistics     intervals and tests, and how they are written
policy_sheets  the tables of games
speed_sheets   the tables of speed, calibration and advice
outputs        which tables belong to which kind; where they go: screen, JSON, CSV, picture
plots          pictures; the only module that knows matplotlib
report         `report`: one HTML page of a folder
"""
