"""Long work: in other processes, stored as it ends, with progress.

confined     a stranger's data, served in a process with limits
pool         many pieces of work in processes, and those that die
store        keeps every result as it comes
stored_work  what the store knows is not done again
progress     how far it is, with the time left
processes    how workers start and end with their parent, and when Ctrl-C is heard
"""
