"""The options that divergences have of their own, on the command line and in configurations.

fairseq makes a criterion's options from its dataclass, which is fixed when the criterion is
registered; a divergence may be registered later, by a ``--user-dir``. So each criterion that takes
any divergence is given a new dataclass then: before fairseq-train makes its parser, and before
fairseq-hydra-train builds the criterion.
"""

# fairseq makes command-line options from real types of the form Optional[...].
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

# By the criterion's name: its own options, without the divergences'.
_OWN_OPTIONS: dict[str, type[FairseqDataclass]] = {}

C = TypeVar("C", bound=type[FairseqCriterion])


def register_for_any_divergence(name: str, dataclass: type[FairseqDataclass]) -> Callable[[C], C]:
    """Register a criterion that has the options of all divergences, also of those to come.

    Args:
        name: what ``--criterion`` calls it.
        dataclass: its own options.
    """

    def register(criterion: C) -> C:
        _OWN_OPTIONS[name] = dataclass
        return register_criterion(name, dataclass=_with_divergence_options(dataclass))(criterion)

    return register


def configured(name: str, divergence: Divergence, cfg: Any) -> Divergence:
    """A divergence with those of its options that were given.

    Args:
        name: of the divergence.
        divergence: to be configured.
        cfg: a criterion's configuration, with the divergences' options or without.

    Raises:
        UserError: an option of another divergence was given, or a value is out of its range.
    """
    options = {option.name: (option, names) for option, names in divergence_options().items()}
    values = {option: getattr(cfg, option, None) for option in options}
    given = {option: value for option, value in values.items() if value is not None}
    for option, names in (options[each] for each in given):
        if name not in names:
            raise UserError(
                f"{option.flag} does not go with {name}: it is an option of {' and '.join(names)}"
            )
    try:
        return divergence.configured(**given) if given else divergence
    except ValueError as error:
        raise UserError(str(error)) from error


def _with_divergence_options(config: type[FairseqDataclass]) -> type[FairseqDataclass]:
    """A criterion's options, and those of all divergences; what is not given stays the default."""
    namespace = {"__module__": config.__module__, "__doc__": config.__doc__}
    taken = _names_of_fairseq() | {known.name for known in fields(config)}
    made = []
    for option, names in divergence_options().items():
        if option.name in taken:
            raise ValueError(
                f"{option.flag} of the divergence {names[0]} is an option of fairseq's or of the "
                f"criterion already: choose another name"
            )
        made.append((option.name, Optional[option.number], _field(option, names)))
    return make_dataclass(config.__name__, made, bases=(config,), namespace=namespace)


def _field(option: Option, names: list[str]) -> Any:
    what = f"{', '.join(names)}: {option.help}; must {option.valid} (default: {option.default})"
    return field(default=None, metadata={"help": what})


def _names_of_fairseq() -> set[str]:
    """The options of every training, whose values another option of the same name would get."""
    groups = (group.type for group in fields(FairseqConfig))
    classes = [each for each in groups if isinstance(each, type)]
    return {
        option.name
        for group in classes
        if issubclass(group, FairseqDataclass)
        for option in fields(group)
    } - {"_name"}


def renew_criterions() -> None:
    """Give the criterions that take any divergence the options of those that are registered now.

    Raises:
        ValueError: a divergence's option has the name of one that fairseq or a criterion has.
    """
    configs = {name: _with_divergence_options(own) for name, own in _OWN_OPTIONS.items()}
    for name, config in configs.items():
        # The three places where fairseq keeps the dataclass that a criterion is registered with.
        setattr(CRITERION_REGISTRY[name], "__dataclass", config)
        CRITERION_DATACLASS_REGISTRY[name] = config
        node = config()
        node._name = name
        ConfigStore.instance().store(name=name, group="criterion", node=node, provider="fairseq")


registry.AFTER_REGISTRATION.append(renew_criterions)
