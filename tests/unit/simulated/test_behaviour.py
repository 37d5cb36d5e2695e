import pytest

from proxy.simulated.behaviour import MODELS, Behaviour, parse_model


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("simulated", Behaviour()),
        ("simulated-embedding", Behaviour()),
        ("simulated-slow", Behaviour(first_ms=500, every_ms=20)),
        ("simulated-first5ms-every7ms-3chunks", Behaviour(5, 7, 3)),
        ("simulated-3chunks-every7ms-first5ms", Behaviour(5, 7, 3)),
        ("simulated-429-first10ms", Behaviour(first_ms=10, status=429)),
        ("simulated-529", Behaviour(status=529)),
        ("simulated-reset-5chunks", Behaviour(chunks=5, breaks="reset")),
        ("simulated-hang", Behaviour(breaks="hang")),
        ("simulated-every600000ms", Behaviour(every_ms=600_000)),
    ],
)
def test_names_of_the_grammar(model, expected):
    assert parse_model(model) == expected


@pytest.mark.parametrize(
    "model",
    [
        "",
        "gpt-5-mini",
        "simulatedx",
        "simulated-",
        "simulated-unheard",
        "simulated-418",  # no provider's answer that a gateway has to know
        "simulated-0chunks",
        "simulated-10001chunks",
        "simulated-first600001ms",
        "simulated-reset-hang",  # one fault at most
        "simulated-429-reset",
        "simulated-slow-first5ms",  # `slow` has said it already
        "simulated-٤٢٩",  # digits, but not ASCII
        "simulated" + "-embedding" * 20,
    ],
)
def test_other_names_are_no_models(model):
    assert parse_model(model) is None


def test_the_listed_models_are_of_the_grammar():
    assert all(parse_model(model) is not None for model in MODELS)
