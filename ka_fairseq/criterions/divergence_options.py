"""The options of divergences, on the command line and in configurations.

fairseq derives a criterion's options from its dataclass when the criterion is registered. A
``--user-dir`` may register a divergence later. So each registration of a divergence renews the
dataclass of every criterion that takes any divergence. This happens before fairseq-train builds its
parser, and before fairseq-hydra-train builds the criterion.
"""

# fairseq builds command-line options only from types that are written as Optional[...].
# ruff: noqa: UP045

from collections.abc import Callable
from dataclasses import field, fields, make_dataclass
from typing import Any, Optional, TypeVar

from fairseq.criterions import (
    CRITERION_DATACLASS_REGISTRY,
    CRITERION_REGISTRY,
    FairseqCriterion,
    register_criterion,
)
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.configs import FairseqConfig
from hydra.core.config_store import ConfigStore

from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import (
    Divergence,
    divergence_options,
    registry,
)
from ka_fairseq.loss.divergences.options import Option

# Name of a criterion → its own options, without those of divergences.
_OWN_OPTIONS: dict[str, type[FairseqDataclass]] = {}

C = TypeVar("C", bound=type[FairseqCriterion])


def register_for_any_divergence(name: str, dataclass: type[FairseqDataclass]) -> Callable[[C], C]:
    """Register a criterion with the options of all divergences, present and future.

    Args:
        name: the value of ``--criterion``.
        dataclass: the criterion's own options.
    """

    def register(criterion: C) -> C:
        _OWN_OPTIONS[name] = dataclass
        return register_criterion(name, dataclass=_with_divergence_options(dataclass))(criterion)

    return register


def configured(name: str, divergence: Divergence, cfg: Any) -> Divergence:
    """Return a divergence with the options that were given.

    Args:
        name: the name of the divergence.
        divergence: the divergence to configure.
        cfg: a criterion's configuration; the divergences' options may be missing from it.

    Raises:
        UserError: an option belongs to another divergence, or a value is out of range.
    """
    options = {option.name: (option, names) for option, names in divergence_options().items()}
    values = {option: getattr(cfg, option, None) for option in options}
    given = {option: value for option, value in values.items() if value is not None}
    for option, names in (options[each] for each in given):
        if name not in names:
            raise UserError(
                f"{option.flag} is an option of {' and '.join(names)}, not of {name}: leave out "
                f"{option.flag}, or choose another --divergence"
            )
    try:
        return divergence.configured(**given) if given else divergence
    except ValueError as error:
        raise UserError(str(error)) from error


def _with_divergence_options(config: type[FairseqDataclass]) -> type[FairseqDataclass]:
    """Return a criterion's dataclass with the options of all divergences added.

    An option that is not given is None: the divergence then keeps its default.
    """
    namespace = {"__module__": config.__module__, "__doc__": config.__doc__}
    taken = _names_of_fairseq() | {known.name for known in fields(config)}
    made = []
    for option, names in divergence_options().items():
        if option.name in taken:
            raise ValueError(
                f"{option.flag} of the divergence {names[0]} is already an option of fairseq or of "
                f"the criterion: choose another name"
            )
        made.append((option.name, Optional[option.number], _field(option, names)))
    return make_dataclass(config.__name__, made, bases=(config,), namespace=namespace)


def _field(option: Option, names: list[str]) -> Any:
    what = f"{', '.join(names)}: {option.help}; must {option.valid} (default: {option.default})"
    return field(default=None, metadata={"help": what})


def _names_of_fairseq() -> set[str]:
    """Return the names of the options that every fairseq training has.

    A divergence's option of the same name would receive their values.
    """
    groups = (group.type for group in fields(FairseqConfig))
    classes = [each for each in groups if isinstance(each, type)]
    return {
        option.name
        for group in classes
        if issubclass(group, FairseqDataclass)
        for option in fields(group)
    } - {"_name"}


def renew_criterions() -> None:
    """Renew the dataclass of every criterion that takes any divergence.

    Raises:
        ValueError: a divergence's option has the name of an option of fairseq or of a criterion.
    """
    configs = {name: _with_divergence_options(own) for name, own in _OWN_OPTIONS.items()}
    for name, config in configs.items():
        # fairseq keeps a criterion's dataclass in these three places.
        setattr(CRITERION_REGISTRY[name], "__dataclass", config)
        CRITERION_DATACLASS_REGISTRY[name] = config
        node = config()
        node._name = name
        ConfigStore.instance().store(name=name, group="criterion", node=node, provider="fairseq")


registry.AFTER_REGISTRATION.append(renew_criterions)
