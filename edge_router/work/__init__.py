"""Long work: in other processes, stored as it ends, with progress.

pool       many pieces of work in processes, and those that die
store      keeps every result as it comes; what it knows is not done again
progress   how far it is, with the time left
processes  how they start and end, and when Ctrl-C is heard; a stranger's data, served with limits
"""
