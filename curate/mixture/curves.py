"""Quality curves: how often a document is read, by its place among its domain's qualities.

The form is OLMo 3's (2025, section on quality-aware upsampling): with x the percentile, in tokens,
`f(x) = 0` below `a` and `C (x - a)^p exp(l (x - a))` above; the integral of f is the domain's
epochs; the mean over the top bucket is at most `top`; of the curves that fit, the steepest is
taken. Here steepness runs along one line, (p, l) = s (power, growth) with s from 1 down to 0, and a
bucket is read at the mean of f over its interval. Along that line no bucket's rate ever falls while
the epochs rise, so that a larger weight only adds copies.

>>> curve = Curve(by="quality", below=0.5, top=4, buckets=4)
>>> path = rates(curve, 4.0)
>>> float(path.epochs[-1]), path.rates[-1].tolist()
(2.0, [0.0, 0.0, 4.0, 4.0])
>>> places(np.array([5.0, 1.0, np.nan, 1.0]), np.array([10, 10, 10, 10])).tolist()
[0.875, 0.5, 0.125, 0.5]
"""

from dataclasses import dataclass

import numpy as np

from curate.mixture.defaults import TOP

__all__ = ["Curve", "Path", "buckets_of", "places", "rates"]

_STEPS = 64  # steepnesses of the table; straight lines between them
_POINTS = 64  # of a bucket, for the mean of the curve over it


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The shape of a quality curve.

    Attributes:
        by: what measures quality, a name for the caller; more is better.
        below: share of the domain's tokens, the worst, that is not read (`a`).
        top: mean copies of the best bucket at most; None: 7, or the repeat cap if that is lower.
        power: the largest exponent p.
        growth: the largest rate l.
        buckets: intervals of equal size, each read at one rate.
    """

    by: str
    below: float = 0.4
    top: float | None = None
    power: float = 5.0
    growth: float = 2.0
    buckets: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A curve at all its epochs, as a table with straight lines between the rows.

    Attributes:
        epochs: float64 [m], rising from 0: the mean rate of all buckets.
        rates: float64 [m, buckets], none of which falls from row to row.
    """

    epochs: np.ndarray
    rates: np.ndarray

    def epochs_at(self, bucket: int, rate: np.ndarray) -> np.ndarray:
        """Return float64 [n]: the fewest epochs at which a bucket has these rates.

        A rate that it never has comes at infinity.
        """
        column = self.rates[:, bucket]
        keep = np.concatenate([[True], column[1:] > column[:-1]])
        found = np.interp(rate, column[keep], self.epochs[keep])
        return np.where(rate > column[-1], np.inf, found)

    def rates_at(self, epochs: float) -> np.ndarray:
        """Return float64 [buckets]: the rates where the domain is read so often."""
        columns = range(self.rates.shape[1])
        return np.array([np.interp(epochs, self.epochs, self.rates[:, b]) for b in columns])


def rates(curve: Curve, cap: float) -> Path:
    """Tabulate a curve.

    Args:
        curve: its shape.
        cap: the repeat cap, for a curve that names no top.
    """
    top = min(TOP, cap) if curve.top is None else curve.top
    steepness = np.linspace(1.0, 0.0, _STEPS + 1)
    # Midpoints of `_POINTS` slices of each bucket, [buckets, points], as distances above `below`.
    slices = curve.buckets * _POINTS
    above = (np.arange(slices) + 0.5) / slices - curve.below
    inside = np.maximum(above, 0.0).reshape(curve.buckets, _POINTS)
    shapes = np.empty((len(steepness), curve.buckets))
    for row, s in enumerate(steepness):
        values = inside ** (s * curve.power) * np.exp(s * curve.growth * inside)
        shapes[row] = np.where(inside > 0, values, 0.0).mean(axis=1)
    # Rounded: the last digits of a power differ from one processor to the next.
    table = np.round(shapes * (top / shapes[:, -1:]), 9)
    table = np.maximum.accumulate(np.concatenate([np.zeros((1, curve.buckets)), table]))
    return Path(epochs=table.mean(axis=1), rates=table)


def places(quality: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return float64 [n] in (0, 1): where each document stands when the worst come first.

    Documents of equal quality share the middle of their stretch; undefined quality is the worst.

    Args:
        quality: float64 [n], NaN where undefined.
        sizes: int64 [n], how much room each document takes.
    """
    known = np.where(np.isnan(quality), -np.inf, quality)
    levels, member = np.unique(known, return_inverse=True)
    stretch = np.zeros(len(levels), dtype=np.int64)
    np.add.at(stretch, member, sizes)
    after = np.cumsum(stretch)
    middle = (2 * after - stretch) / max(2 * int(after[-1]), 1) if len(levels) else np.empty(0)
    return np.asarray(middle)[member]


def buckets_of(curve: Curve, place: np.ndarray) -> np.ndarray:
    """Return int64 [n]: the bucket of each place."""
    return np.minimum((place * curve.buckets).astype(np.int64), curve.buckets - 1)
