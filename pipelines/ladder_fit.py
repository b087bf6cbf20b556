"""A scaling law through a few trained sizes, with its error.

L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, "Training Compute-Optimal Large
Language Models", approach 3): N weights of matrix products, D targets, L held-out nats of a target.
As there, log L is fitted as the log-sum-exp of its terms, by Huber's loss on log residuals, from a
grid of starts. What the points cannot carry is not fitted: fewer of them, or tokens that follow
from the size, give E + A / N^alpha, and three points A / N^alpha.

Errors are the fit's covariance with the residuals' own variance and Student's t: honest about few
points, and silent about a law that bends outside of them.

>>> points = [Point(size=n, tokens=1e6, nats=2 + 40 / n**0.3) for n in (1e4, 4e4, 2e5, 1e6, 4e6)]
>>> law = fit(points)
>>> law.kind, round(law.values["alpha"], 3), round(law.values["E"], 2)
('size', 0.3, 2.0)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.corpus.errors import InputError

__all__ = ["KINDS", "Law", "Point", "fit"]

#: kind -> (its parameters, the fewest points it is fitted on: one more than parameters at least).
KINDS = {
    "power": (("A", "alpha"), 3),
    "size": (("E", "A", "alpha"), 4),
    "size and tokens": (("E", "A", "alpha", "B", "beta"), 7),
}
MIN_POINTS = 3
DELTA = 1e-3  # of Huber's loss, Hoffmann et al., appendix D.3
_COARSE = 0.05  # of the search for the basin, where a small delta would creep
_EFFICIENT = 1.345  # standard deviations: 95 % efficient where errors are normal (Huber 1964)
_NORMAL_MAD = 1.4826  # standard deviations of normal errors in their median absolute one
_TELLS_TOKENS = 0.1  # standard deviation of log D around what log N says of it
_STARTS_E, _STARTS_SLOPE = (0.2, 0.8), (0.2, 0.6)
_LEVEL = 0.9

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A trained model: weights of its matrix products, targets it learnt from, held-out nats."""

    size: float
    tokens: float
    nats: float


@dataclass(frozen=True, kw_only=True)
class Law:
    """A fitted law.

    Attributes:
        kind: a key of `KINDS`.
        values: parameter -> value.
        errors: parameter -> standard error; of E, A and B relative (of their logarithm).
        scale: standard deviation of the residuals of log L.
        freedom: points less parameters.
        covariance: of the parameters as they are fitted.
        theta, centre: the fitted parameters, and the mean log size and log tokens.
        at_bound: whether E came out as nothing, so that its error means nothing.
    """

    kind: str
    values: dict[str, float]
    errors: dict[str, float]
    scale: float
    freedom: int
    covariance: Array
    theta: Array
    centre: tuple[float, float]
    at_bound: bool

    def predict(
        self, size: float, tokens: float, level: float = _LEVEL
    ) -> tuple[float, float, float]:
        """Return the nats expected at a size, and the interval that a new run falls into.

        The interval has the error of the law and the spread of single runs in it.
        """
        from scipy.special import stdtrit

        x = np.array([[math.log(size), math.log(tokens)]]) - self.centre
        value, slope = float(_model(self.theta, x)[0]), _jacobian(self.theta, x)[0]
        variance = float(slope @ self.covariance @ slope) + self.scale**2
        half = float(stdtrit(self.freedom, 0.5 + level / 2)) * math.sqrt(variance)
        return math.exp(value), math.exp(value - half), math.exp(value + half)

    def told(self) -> str:
        """Return the law in a line, as a person would write it."""
        v, e = self.values, self.errors
        size = f"{v['A']:.3g} / N^{v['alpha']:.3f}"
        if self.kind == "power":
            return f"L = {size} (alpha +- {e['alpha']:.3f})"
        constant = "0" if self.at_bound else f"{v['E']:.3g}"
        more = f" + {v['B']:.3g} / D^{v['beta']:.3f}" if "B" in v else ""
        beta = f", beta +- {e['beta']:.3f}" if "B" in v else ""
        low, high = (v["E"] * math.exp(sign * e["E"]) for sign in (-1, 1))
        around = "E is not told from 0" if self.at_bound else f"E {low:.2g} to {high:.2g}"
        return f"L = {constant} + {size}{more} (alpha +- {e['alpha']:.3f}{beta}, {around})"


def fit(points: Sequence[Point]) -> Law:
    """Fit the fullest law that the points carry.

    Raises:
        InputError: fewer than 3 sizes, or points that are no measurements.
    """
    table = np.array([[p.size, p.tokens, p.nats] for p in points], np.float64).reshape(-1, 3)
    if not (np.isfinite(table) & (table > 0)).all():
        raise InputError("a size, a number of tokens or a loss of the ladder is not above zero")
    sizes = len(np.unique(table[:, 0]))
    if sizes < MIN_POINTS:
        raise InputError(
            f"a law needs {MIN_POINTS} sizes, and 4 to tell a floor of the loss; these are {sizes}"
        )
    x, y = np.log(table[:, :2]), np.log(table[:, 2])
    centre = x.mean(axis=0)
    x = x - centre
    kind = _kind(x, sizes)
    names = KINDS[kind][0]
    coarse = (_solve(start, x, y, _COARSE) for start in _starts(names, y))
    start = _solve(min(coarse, key=lambda found: found.cost).x, x, y, DELTA)
    freedom = len(y) - len(names)
    spread = _NORMAL_MAD * float(np.median(np.abs(_model(start.x, x) - y)))
    delta = max(DELTA, _EFFICIENT * spread * math.sqrt(len(y) / freedom))
    best = _solve(start.x, x, y, delta)
    residuals = _model(best.x, x) - y
    scale = math.sqrt(float(residuals @ residuals) / freedom)
    bound = len(names) > 2 and bool(best.x[0] < _floor(y) + 1e-3)
    jacobian = _jacobian(best.x, x)
    if bound:
        jacobian[:, 0] = 0  # E stays where it is
    covariance = scale**2 * np.linalg.pinv(jacobian.T @ jacobian)
    values, errors = _readable(names, best.x, covariance, centre)
    return Law(
        kind=kind,
        values=values,
        errors=errors,
        scale=scale,
        freedom=freedom,
        covariance=covariance,
        theta=best.x,
        centre=(float(centre[0]), float(centre[1])),
        at_bound=bound,
    )


def _kind(x: Array, sizes: int) -> str:
    """Return the fullest kind of law for centred log sizes and log tokens [n, 2]."""
    spread = float(x[:, 0] @ x[:, 0])
    around = x[:, 1] - x[:, 0] * (float(x[:, 0] @ x[:, 1]) / spread)
    if len(x) >= KINDS["size and tokens"][1] and float(around.std()) > _TELLS_TOKENS:
        return "size and tokens"
    return "size" if sizes >= KINDS["size"][1] else "power"


def _terms(theta: Array, x: Array) -> Array:
    """Return the logarithms of the law's terms [n, terms]; the size's term comes first or second.

    theta is (log A, alpha) or (log E, log A, alpha[, log B, beta]) at the points' centre.
    """
    if len(theta) == 2:
        return np.stack([theta[0] - theta[1] * x[:, 0]], axis=1)
    terms = [np.full(len(x), theta[0]), theta[1] - theta[2] * x[:, 0]]
    if len(theta) == 5:
        terms.append(theta[3] - theta[4] * x[:, 1])
    return np.stack(terms, axis=1)


def _model(theta: Array, x: Array) -> Array:
    """Return log L [n]."""
    total: Array = np.logaddexp.reduce(_terms(theta, x), axis=1)
    return total


def _jacobian(theta: Array, x: Array) -> Array:
    """Return d log L / d theta [n, parameters]: the terms' shares, and the slopes' times -x."""
    terms = _terms(theta, x)
    shares = np.exp(terms - np.logaddexp.reduce(terms, axis=1)[:, None])
    columns = []
    for term in range(shares.shape[1]):
        axis = term if len(theta) == 2 else term - 1
        columns.append(shares[:, term])
        if axis >= 0:
            columns.append(-shares[:, term] * x[:, axis])
    return np.stack(columns, axis=1)


def _floor(y: Array) -> float:
    return float(y.min()) - 6.0  # E below 1/400 of the best loss is none


def _starts(names: Sequence[str], y: Array) -> list[Array]:
    """Return starts of the search: the share of the floor, and how steep the terms are."""
    best, middle = float(y.min()), float(y.mean())
    starts = []
    for slope in _STARTS_SLOPE:
        if len(names) == 2:
            starts.append(np.array([middle, slope]))
            continue
        for share in _STARTS_E:
            rest = math.log(max(math.exp(middle) - share * math.exp(best), 1e-3))
            floor = best + math.log(share)
            if len(names) == 3:
                starts.append(np.array([floor, rest, slope]))
            else:
                half = rest - math.log(2)
                starts += [np.array([floor, half, slope, half, s]) for s in _STARTS_SLOPE]
    return starts


def _solve(start: Array, x: Array, y: Array, delta: float) -> Any:
    """Search from a start for the least of Huber's loss, which turns linear at `delta`."""
    from scipy.optimize import least_squares

    low, high = np.full(len(start), -np.inf), np.full(len(start), np.inf)
    if len(start) > 2:
        low[0] = _floor(y)
    low[2 if len(start) > 2 else 1] = 0.0
    if len(start) == 5:
        low[4] = 0.0
    return least_squares(
        lambda theta: _model(theta, x) - y,
        np.clip(start, low + 1e-6, high),
        jac=lambda theta: _jacobian(theta, x),
        bounds=(low, high),
        loss="huber",
        f_scale=delta,
        xtol=1e-10,
        ftol=1e-10,
        gtol=1e-10,
        max_nfev=200,
    )


def _readable(
    names: Sequence[str], theta: Array, covariance: Array, centre: Array
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the law's parameters at N = D = 1, as they are written, and their standard errors."""
    values, errors = {}, {}
    for i, name in enumerate(names):
        slope = np.zeros(len(names))
        slope[i] = 1.0
        value = theta[i]
        if name in ("A", "B"):  # A at N = 1: the centre is moved along the slope
            moved = centre[0 if name == "A" else 1]
            slope[i + 1] = moved
            value = theta[i] + theta[i + 1] * moved
        values[name] = float(value) if name in ("alpha", "beta") else math.exp(value)
        errors[name] = math.sqrt(max(0.0, float(slope @ covariance @ slope)))
    return values, errors
