"""Writes eval/tests/fixtures/statistics.json: random cases and what scipy and statsmodels say of them.

    python3 -m venv venv && venv/bin/pip install scipy statsmodels
    venv/bin/python benches/statistics_reference.py > eval/tests/fixtures/statistics.json
"""

import json
import math
import random

import numpy
import scipy.optimize
import scipy.stats
import statsmodels
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

draw = random.Random(20261)


def wilson():
    count = draw.choice([1, 2, 5, 30, 100, 1319, 100_000])
    right = draw.randint(0, count)
    return [right, count, *map(float, proportion_confint(right, count, alpha=0.05, method="wilson"))]


def standard_error():
    values = [draw.choice([0.0, 1.0, draw.random()]) for _ in range(draw.randint(2, 40))]
    return [values, float(scipy.stats.sem(values))]


def exact_mcnemar():
    first = draw.choice([draw.randint(0, 12), draw.randint(0, 200), draw.randint(0, 20_000)])
    second = max(0, first + draw.randint(-3 * math.isqrt(first + 1), 3 * math.isqrt(first + 1)))
    return [first, second, float(mcnemar([[0, first], [second, 0]], exact=True).pvalue)]


def pass_at_k():
    samples = draw.randint(1, 200)
    right, k = draw.randint(0, samples), draw.randint(1, samples)
    return [samples, right, k, float(1 - scipy.stats.hypergeom(samples, right, k).pmf(0))]


def bootstrap():
    counts = [draw.randint(0, 60), draw.randint(1, 60), draw.randint(1, 800)]
    values = numpy.repeat([1.0, -1.0, 0.0], counts)
    interval = scipy.stats.bootstrap(
        (values,), numpy.mean, n_resamples=10_000, method="percentile", rng=numpy.random.default_rng(draw.randint(0, 1 << 30))
    ).confidence_interval
    return [*counts, float(interval.low), float(interval.high)]


def detectable():
    """Connor (1987): sqrt(n) d = z sqrt(s) + z' sqrt(s - d^2), with s = d where fewer problems differed."""
    z, power = scipy.stats.norm.ppf(0.975), scipy.stats.norm.ppf(0.8)
    count = draw.choice([20, 100, 500, 1319, 10_000])
    discordant = draw.randint(0, count)
    share = discordant / count

    def gap(d, s):
        return math.sqrt(count) * d - z * math.sqrt(s) - power * math.sqrt(max(s - d * d, 0))

    # A difference can at most be the discordant share itself.
    if share > 0 and gap(share, share) >= 0:
        found = scipy.optimize.brentq(gap, 0, share, args=(share,), xtol=1e-15)
    else:
        found = scipy.optimize.brentq(lambda d: gap(d, d), 1e-12, 1, xtol=1e-15)
    return [count, discordant, found]


def cases(make, count):
    return [make() for _ in range(count)]


reference = {
    "made_by": f"benches/statistics_reference.py with scipy {scipy.__version__} and statsmodels {statsmodels.__version__}",
    "wilson": cases(wilson, 100),
    "standard_error": cases(standard_error, 30),
    "mcnemar": cases(exact_mcnemar, 100),
    "pass_at_k": cases(pass_at_k, 100),
    "bootstrap": cases(bootstrap, 20),
    "detectable": cases(detectable, 60),
}
rows = [f' {json.dumps(kind)}: {json.dumps(value)}' for kind, value in reference.items()]
print("{\n" + ",\n".join(rows) + "\n}")
