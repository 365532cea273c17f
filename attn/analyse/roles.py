"""The roles that a head plays by its numbers on made inputs, as labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attn.heads import HeadId
from attn.index.index import Index


@dataclass(frozen=True)
class Role:
    """A role: its ``name``, the ``metric`` that gives it, its ``value`` there, and ``on`` which
    inputs. As text: "induction 0.87 on random tokens"."""

    name: str
    metric: str
    value: float
    on: str

    def __str__(self) -> str:
        return f"{self.name} {self.value:.2f} {self.on}".rstrip()


def roles(index: Index, head: HeadId) -> tuple[Role, ...]:
    """The roles whose threshold a head reaches, in the order of the metrics.

    A metric says with its definition which role it gives and from which value on. Empty where none
    is reached or measured. Raises HeadError for a head out of range.
    """
    found = []
    for name, value in index.numbers(head).items():
        made = index.definition(name)
        if made.threshold is not None and value >= made.threshold:  # NaN reaches none
            found.append(Role(made.role, name, value, made.on))
    return tuple(found)


def told(some: Sequence[Role]) -> str:
    """Roles as one sentence; empty where there is none."""
    return f"Known roles: {'; '.join(map(str, some))}." if some else ""


def labels(index: Index) -> list[str]:
    """(layer * head,) the roles of every head in a few words, "" for none, in the order of
    :meth:`Index.heads`."""
    return ["; ".join(map(str, roles(index, head))) for head in index.heads()]
