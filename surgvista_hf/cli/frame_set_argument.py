"""`NAME=DIR`: a data set and the folder of its frame set."""


def named_frame_set(option: str, word: str) -> tuple[str, str]:
    """Name and folder.

    Raises:
        InputError: something else was given for the option.
    """
    from ..util.errors import InputError

    name, equals, folder = word.partition("=")
    if not equals:
        raise InputError(f"{option} is {word!r}; NAME=DIR is expected, e.g. cholec80=frame_sets/cholec80")
    return name, folder
