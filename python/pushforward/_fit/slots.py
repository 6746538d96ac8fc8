"""The gradient of a minibatch that several processes share.

The core sums a gradient in a binary tree over slots of rows. A process gets the rows of some slots, and computes the
largest nodes of the tree that these make: one, if the number of processes is a power of two. The nodes are exchanged,
and each process adds them as the rest of the tree does. So the gradient has the bits that one process computes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pushforward._dispatch import core
from pushforward._group import Group
from pushforward._io.rows import Window
from pushforward._model.state import State
from pushforward._typing import Array, Doubles, Floats, Indices

# Up to so many bytes in all, each process gets all nodes and adds them: one message, and more bytes. Beyond, each adds
# them for a part of the parameters, which the others then get: two messages. The bytes cost as much as a second message
# at 10 Gbit/s and 20 us of latency, six times over among 64 processes.
_MOST_BYTES_OF_ONE_MESSAGE = 1 << 18


@dataclass(frozen=True)
class _Plan:
    """How minibatches of one size are shared.

    Parameters
    ----------
    slots : (int, int)
        The slots of this process, first and last + 1.
    bounds : (size + 1,) array
        Where the rows of the processes begin, and the end.
    counts : (size,) array
        The nodes of each process.
    nodes : list of (int, int)
        All nodes of the tree, by first slot and level.
    """

    slots: tuple[int, int]
    bounds: Indices
    counts: Indices
    nodes: list[tuple[int, int]]


class SlotSums:
    """Sums the gradients of minibatches over the processes.

    Parameters
    ----------
    state : State
        The flow.
    group : Group
        The processes.
    """

    def __init__(self, state: State, group: Group) -> None:
        self._state, self._group = state, group
        self._plans: dict[int, _Plan] = {}
        parameters = state.parameters
        self._count, self._dtype = parameters.size, parameters.dtype
        # A double in the units of the gradient's entries.
        self._double = 8 // parameters.itemsize
        self._cuts = np.arange(group.size + 1) * self._count // group.size
        self._buffers: dict[str, Floats] = {}

    def part(self, rows: int) -> Indices:
        """Return where the rows of each process begin in a minibatch of so many, and the end, (size + 1,)."""
        return self._plan(rows).bounds

    def _plan(self, rows: int) -> _Plan:
        plan = self._plans.get(rows)
        if plan is None:
            tile_rows, nbytes = self._state.core.tile_rows, self._count * self._dtype.itemsize
            shares = core.share_slots(rows, tile_rows, nbytes, self._group.size)
            plan = self._plans[rows] = _Plan(
                shares[self._group.rank][0],
                np.array([*(first for _, (first, _), _ in shares), rows]),
                np.array([len(nodes) for _, _, nodes in shares]),
                [node for _, _, nodes in shares for node in nodes],
            )
        return plan

    def loss_and_grad(self, batch: Window, gradient: Floats, normalizer: float, dropout: int) -> tuple[float, float]:
        """Write the gradient of a minibatch, of which each process has its part; return the loss, and the norm."""
        plan, group = self._plan(len(batch)), self._group
        own = int(plan.counts[group.rank])
        sums, values = self._buffer("sums", own * self._count), np.empty(own)
        error: BaseException | None = None
        try:
            if own:
                self._state.core.loss_and_grad_of_slots(
                    batch.x,
                    sums,
                    values,
                    context=batch.context,
                    weights=batch.weights,
                    index=batch.index,
                    normalizer=normalizer,
                    dropout=dropout,
                    rows=len(batch),
                    slots=plan.slots,
                    threads=self._state.num_threads,
                )
        except BaseException as found:  # the others wait for the message
            error = found
        head = np.array([group.status(error), *values]).view(self._dtype)
        heads = self.exchanged(plan, head, sums, gradient)
        if any(found[0] for found in heads):
            group.end(error)
        loss = np.empty(1)
        losses = np.concatenate([found[1:] for found in heads])
        core.add_nodes(losses, np.arange(len(losses)), plan.nodes, loss, 1)
        return float(loss[0]), core.norm(gradient, self._state.num_threads)

    def exchanged(self, plan: _Plan, head: Array, sums: Floats, gradient: Floats) -> list[Doubles]:
        """Exchange this process's nodes for the gradient; return the heads of all messages."""
        is_short = len(plan.nodes) * sums.itemsize * self._count <= _MOST_BYTES_OF_ONE_MESSAGE
        return (self._in_one if is_short else self._in_two)(plan, head, sums, gradient)

    def _in_one(self, plan: _Plan, head: Array, sums: Floats, gradient: Floats) -> list[Doubles]:
        """Get the nodes of all processes, and add them."""
        heads = (1 + plan.counts) * self._double
        counts = heads + plan.counts * self._count
        message = self._buffer("message", int(counts[self._group.rank]))
        message[: len(head)], message[len(head) :] = head, sums
        theirs = self._buffer("theirs", int(counts.sum()))
        self._group.gather(message, theirs, counts)
        self._add(plan, theirs, counts, heads, gradient)
        return self._heads(theirs, counts, heads)

    def _in_two(self, plan: _Plan, head: Array, sums: Floats, gradient: Floats) -> list[Doubles]:
        """Get a part of the nodes of all processes, and add it; then get the sums of the other parts."""
        rank, cuts = self._group.rank, self._cuts
        sizes, own = np.diff(cuts), int(plan.counts[rank])
        to = len(head) + own * sizes
        message = self._buffer("message", int(to.sum()))
        nodes = sums.reshape(own, self._count)
        for part, first, last in zip(np.split(message, to.cumsum()[:-1]), cuts[:-1], cuts[1:], strict=True):
            part[: len(head)] = head
            part[len(head) :].reshape(own, last - first)[...] = nodes[:, first:last]
        heads = (1 + plan.counts) * self._double
        by = heads + plan.counts * sizes[rank]
        theirs = self._buffer("theirs", int(by.sum()))
        self._group.swap(message, to, theirs, by)
        self._add(plan, theirs, by, heads, gradient[cuts[rank] : cuts[rank + 1]])
        self._group.gather(gradient[cuts[rank] : cuts[rank + 1]], gradient, sizes)
        return self._heads(theirs, by, heads)

    def _add(self, plan: _Plan, theirs: Floats, counts: Indices, heads: Indices, total: Floats) -> None:
        firsts = counts.cumsum() - counts + heads
        offsets = [first + i * total.size for first, n in zip(firsts, plan.counts, strict=True) for i in range(n)]
        core.add_nodes(theirs, np.array(offsets), plan.nodes, total, self._state.num_threads)

    def _heads(self, theirs: Floats, counts: Indices, heads: Indices) -> list[Doubles]:
        firsts = counts.cumsum() - counts
        return [
            np.frombuffer(theirs[first : first + n].tobytes(), np.float64)
            for first, n in zip(firsts, heads, strict=True)
        ]

    def _buffer(self, name: str, size: int) -> Floats:
        """Return a part of an array that is kept from step to step."""
        kept = self._buffers.get(name)
        if kept is None or len(kept) < size:
            kept = self._buffers[name] = np.empty(size, self._dtype)
        return kept[:size]
