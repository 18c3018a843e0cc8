"""Every error that fipo raises on purpose.

FipoError
├── ConfigError          a recipe, an override or a combination of settings is wrong
│   └── AdmissionError   trainer, engine and transformers disagree about the model
├── DataError            the input data cannot be used as asked
├── RewardError          a reward function raised or returned a value that is no number
├── RolloutError         an inference engine failed or broke its contract
├── TrainingError        training cannot go on (no signal, non-finite loss)
├── CheckpointError      a checkpoint is missing, damaged or of another run
├── StorageError         the object store refused, is unreachable or returned damaged bytes
│   ├── ObjectNotFound   the object does not exist
│   └── ObjectDamaged    the object is not what was put there
├── TrackingError        the tracking server refused what was sent
├── RegistryError        a model cannot be registered or promoted
│   └── ModelNotFound    no such model is registered
├── LaunchError          a distributed job failed
├── ServingError         a model cannot be served, or does not answer
└── Interrupted          asked to stop (SIGTERM, SIGINT); the state is saved and the same command continues

Exit codes tell whoever started the process whether another attempt makes sense (as in sysexits.h): 2, wrong settings,
and 65, wrong data, fail again; 75, stopped on request, continues; 1, all else, may have been the machine, the network
or a service.

`StopRequested` is none of them: no error, but an interrupt.
"""

WRONG_SETTINGS, WRONG_DATA, STOPPED = 2, 65, 75
PERMANENT = frozenset({WRONG_SETTINGS, WRONG_DATA})
"""Exit codes after which the same attempt would fail again; Kubernetes' policies name them too."""


class StopRequested(BaseException):
    """Ends what a stop request may end at once (`World.interruptible`).

    No `Exception`, as KeyboardInterrupt is none: whoever catches what a reward function or a model's code may raise
    does not mean it.
    """


class FipoError(Exception):
    """Base of all errors that are the user's to mend; the command line prints the message, without a traceback."""

    exit_code = 1


class ConfigError(FipoError):
    """A setting is unknown, impossible or contradicts another; the message names field, requirement and value."""

    exit_code = WRONG_SETTINGS


class AdmissionError(ConfigError):
    """Measured before the first update: what would be trained is not the model; the message has the figures."""


class DataError(FipoError):
    """Input data cannot be used: unreadable, of the wrong layout, or nothing is left after filtering."""

    exit_code = WRONG_DATA


class RewardError(FipoError):
    """A reward function raised or returned something that is not a finite number."""

    exit_code = WRONG_DATA


class RolloutError(FipoError):
    """An inference engine failed or returned what its contract forbids."""


class TrainingError(FipoError):
    """Training cannot continue, for a reason in the data or the settings."""

    exit_code = WRONG_DATA


class CheckpointError(FipoError):
    """A checkpoint is missing, damaged, or belongs to another configuration."""

    exit_code = WRONG_DATA


class StorageError(FipoError):
    """The object store refused a request, cannot be reached, or returned damaged bytes."""


class ObjectNotFound(StorageError):
    """The object does not exist."""


class ObjectDamaged(StorageError):
    """The object is not what was put there: another size or digest."""


class TrackingError(FipoError):
    """The tracking server refused what was sent."""


class RegistryError(FipoError):
    """A model cannot be registered or promoted."""


class ModelNotFound(RegistryError):
    """No such model, version or alias is registered; the message names what there is."""

    exit_code = WRONG_SETTINGS


class LaunchError(FipoError):
    """A distributed job could not be started or failed.

    Args:
        message: why.
        exit_code: of the process that failed first: where another attempt would fail again, it is this error's too.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        if exit_code in PERMANENT:
            self.exit_code = exit_code


class ServingError(FipoError):
    """A model cannot be served, or what serves it does not answer."""


class Interrupted(FipoError):
    """Stopped on request after saving; running the same command again continues (exit code 75, EX_TEMPFAIL)."""

    exit_code = STOPPED
