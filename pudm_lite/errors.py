"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right: the message is one sentence, says what was wrong and what would be right."""
