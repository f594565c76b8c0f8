"""The one exception that users are meant to read.

Anything a user can cause (a mistyped path, a file of the wrong kind, a
parameter out of range) is raised as `UserError` with one clear sentence that
says what is wrong and what to do. The CLI prints the sentence on stderr and
exits with code 2; a traceback means a bug of ours.
"""


class UserError(Exception):
    """Bad input, in one sentence."""


class MachineError(UserError):
    """A fault of this machine, in one sentence: whatever is played fails in the same way."""
