"""What happened as plain data, which is the same on triopool and its peers."""


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
