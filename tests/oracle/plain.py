"""What happens as plain data, which is the same on triopool and its peers."""

# {a word for what ends by itself, at once: the method, and how it is called}
NOW = {
    "get_now": ("get", {"timeout": 0}),
    "join_task_now": ("join_task", {"timeout": 0}),
    "kill_task_now": ("kill_task", {"block": False}),
    "killone_now": ("killone", {"block": False}),
    "kill_now": ("kill", {"block": False}),
    "join_now": ("join", {"timeout": 0}),
    "start_now": ("start", {"blocking": False}),
    "start_timeout_now": ("start", {"timeout": 0}),
    "add_now": ("add", {"blocking": False}),
    "add_timeout_now": ("add", {"timeout": 0}),
    "wait_available_now": ("wait_available", {"timeout": 0}),
}


class Boom(Exception):
    """What a call fails with that is to fail."""


def shown(outcome):
    """A value or an error."""
    kind, value = outcome
    if isinstance(value, BaseExceptionGroup):
        return [kind, "ExceptionGroup", sorted(error.args[0] for error in value.exceptions)]
    if kind == "error":
        return [kind, type(value).__name__, *(value.args if isinstance(value, Boom) else ())]
    return [kind, plain(value)]


def plain(value):
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value if isinstance(value, int | None) else type(value).__name__
