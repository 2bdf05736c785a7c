"""Stand-ins that have only what the real classes have."""

from __future__ import annotations

from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)


def standing_in_for(real: type) -> Any:
    """A class decorator: public members must be the real class's, and so must attributes that are set."""

    def decorate(cls: Class) -> Class:
        own = vars(cls).get("_hidden", ())  # for tests
        members = [name for name in vars(cls) if not name.startswith("_") and name not in own]
        wrong = [name for name in members if not hasattr(real, name)]
        assert not wrong, f"{real.__name__} has no {', '.join(wrong)}"

        def set_attribute(self: Any, name: str, value: Any) -> None:
            if not name.startswith("_") and not hasattr(real, name):
                raise AttributeError(f"{real.__name__} has no attribute {name}")
            object.__setattr__(self, name, value)

        cls.__setattr__ = set_attribute  # type: ignore[method-assign, assignment]
        return cls

    return decorate
