"""The one exception of sn-deploy: what is wrong, where, what was expected, and how to mend it."""

from __future__ import annotations


class SnDeployError(Exception):
    """Bad input, or an environment in which the request can't be met; the command line exits with 2.

    Args:
        what: what is wrong, a clause without a full stop, with the value that was met.
        where: the file, layer, node or option it was found in.
        expected: what would have been accepted.
        mend: what the user can do about it, as an imperative.

    ``str(error)`` is one line: ``where: what (expected …); mend``.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.mend = what, where, expected, mend
        message = what if where is None else f"{where}: {what}"
        if expected is not None:
            message += f" (expected {expected})"
        if mend is not None:
            message += f"; {mend}"
        super().__init__(" ".join(message.split()))

    def but(self, **fields: str | None) -> SnDeployError:
        """An error of the same kind, with other ``what``, ``where``, ``expected`` or ``mend``."""
        own = {"what": self.what, "where": self.where, "expected": self.expected, "mend": self.mend}
        return type(self)(**{**own, **fields})  # type: ignore[arg-type]


class CheckFailedError(SnDeployError):
    """The request was valid and the answer is no: a comparison left its tolerance. The command line exits with 1."""

    exit_code = 1


class SnDeployWarning(UserWarning):
    """Something was done in another way than it was asked for, and the result is right all the same; or something is
    used in a way that its maker doesn't support.
    """


def first_line(error: BaseException) -> str:
    """The first line of another library's message that says anything: ours are one line, theirs often are not."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
