"""The root of all typed errors. Layers that need a kind of their own define it beside their code as a subclass."""


class SurgVistaError(Exception):
    """Base of all errors raised on bad input: says what was found, what was expected and what to do."""


class InputError(SurgVistaError, ValueError):
    """An argument has the wrong shape, type or value."""
