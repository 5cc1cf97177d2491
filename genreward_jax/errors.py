"""The one exception that means "the user can mend this": shown as a sentence, exit code 2, no traceback."""


class UserError(Exception):
    """What is wrong, with the value, and what mends it, in one sentence."""
