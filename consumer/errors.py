"""The one error tree.

    TagstreamError
    ├── SettingsError     wrong usage or settings: exit code 2
    ├── UploadError
    │   ├── PermanentError    this upload can never work: dead letter
    │   └── TransientError    this upload may work later: retry
    └── Abandoned         this upload is no longer ours: no result, no commit

Anything else is a bug: the process ends without committing.
"""


class TagstreamError(Exception):
    """An error with a message that says what, where and what to do."""


class SettingsError(TagstreamError):
    """Wrong usage or settings; found before any work starts."""


class UploadError(TagstreamError):
    """One upload failed.

    `reason` is a stable snake_case code that readers of the dead-letter topic build on; `stage` says where
    (intake, fetch, decode, speech, read).
    """

    def __init__(self, reason: str, message: str, *, stage: str) -> None:
        # Messages quote what strangers wrote, and end in logs and on terminals.
        super().__init__("".join(character if character.isprintable() else "?" for character in message) or reason)
        self.reason = reason
        self.stage = stage


class PermanentError(UploadError):
    """Trying again cannot help."""


class TransientError(UploadError):
    """Trying again later may help."""


class Abandoned(TagstreamError):
    """The upload's partition was taken away, or the process is stopping: drop the work, commit nothing."""
