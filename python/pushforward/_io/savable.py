"""Models that are saved to files and loaded from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar

from pushforward._io import files
from pushforward._typing import Array, PathLike

Self = TypeVar("Self", bound="Savable")


class Savable(ABC):
    """A model whose files hold tensors and a JSON value."""

    def save(self, path: PathLike) -> None:
        """Write to one file: safetensors, with the description as JSON in the metadata.

        The file appears whole or not at all; one that was there is replaced at the end, and keeps its mode. A link is
        followed, and a pipe or a device is written to as it is.

        Parameters
        ----------
        path : str or path
            The file; by custom it ends in ``.safetensors``.

        Raises
        ------
        OSError
            If it cannot be written.
        ValueError
            If a parameter is NaN or infinite, or a `TableFlow` was never fitted.

        Examples
        --------
        >>> import tempfile, os
        >>> flow = Flow(2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "flow.safetensors")
        ...     flow.save(path)
        ...     twin = Flow.load(path)
        >>> bool((twin.parameters == flow.parameters).all())
        True
        """
        files.write(path, *self._to_file())

    @classmethod
    def load(cls: type[Self], path: PathLike) -> Self:
        """Read from a file that `save` wrote, in this version or an older one.

        A `Flow` can be read from the checkpoint of a fit too, and is then in the best state so far. An `Ensemble` can
        be read from the file of a `Flow`, which is then its only member.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        Flow, Ensemble or TableFlow
            The same model: same densities, to the last bit, on the same instruction set.

        Raises
        ------
        FileFormatError
            If the file is damaged, foreign, or of a newer format.
        OSError
            If it is missing or cannot be read.
        """
        content, tensors = files.read(path)
        with files.reading(path):
            return cls._of_file(content, tensors)

    @abstractmethod
    def _to_file(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return what a file holds; raise ValueError for what could not be loaded."""

    @classmethod
    @abstractmethod
    def _of_file(cls: type[Self], content: dict[str, Any], tensors: dict[str, Array]) -> Self:
        """Make a model of what a file holds, after checking all of it; raise FileFormatError."""
