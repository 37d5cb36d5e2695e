"""The shape of the house is a test: rooms, doors, purity, sizes and names.

Each rule is a function from parsed modules to findings ("file:line: what is wrong. What to
do"); the tests at the end run it over `proxy/`, and over planted mistakes that it must see.
A room that does not exist yet breaks no rule.
"""

import ast
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def several(names: str) -> frozenset[str]:
    return frozenset(names.split())


LAYERS = {
    "core": 0,
    **dict.fromkeys(("settings", "pricing", "dialects"), 1),
    **dict.fromkeys(("adapters", "simulated"), 2),
    **dict.fromkeys(
        ("identity", "routing", "cache", "admission", "keyring", "upstream", "ledger", "telemetry"),
        3,
    ),
    **dict.fromkeys(("pipeline", "administration"), 4),
    "edge": 5,
    "app": 6,
    "cli": 7,
    "__main__": 8,
}

# Who may import what does I/O, or comes from outside, and for which purpose. One importer for one purpose.
DOORS: dict[str, dict[str, str]] = {
    "orjson": {"proxy.core.jsonio": "JSON"},
    "httptools": {
        "proxy.adapters.http.framing": "parse an upstream's answer",
        "proxy.edge.reader": "parse a caller's request",
    },
    "httpx": {
        "proxy.adapters.http.*": "transports",
        "proxy.simulated.transport": "a transport",
        "proxy.upstream.client": "send",
        "proxy.telemetry.webhook": "tell an operator's URL",
        "proxy.app.providers": "say what a transport is",
    },
    "starlette": {"proxy.edge.*": "ASGI"},
    "uvicorn": {"proxy.edge.server": "the server's lifecycle", "proxy.edge.protocol": "what it asks of a protocol"},
    "uvloop": {"proxy.app.process": "the event loop"},
    "hiredis": {"proxy.adapters.redis_wire": "the state store"},
    "boto3": {"proxy.adapters.s3": "the ledger's sink in S3", "proxy.adapters.kms": "the KEK in AWS KMS"},
    "botocore": {"proxy.adapters.s3": "its time-outs and errors", "proxy.adapters.kms": "its time-outs and errors"},
    "cryptography": {"proxy.keyring.aead": "seal and open, wrap and unwrap"},
    "xxhash": {"proxy.routing.strategy": "draw lots", "proxy.cache.fingerprint": "name a call"},
    "prometheus_client": {
        "proxy.telemetry.metrics": "the metrics' registry",
        "proxy.telemetry.series": "what a scrape reads of one counter or histogram",
        "proxy.telemetry.cache_counts": "what a scrape reads of kept answers",
        "proxy.telemetry.merging": "what a scrape reads of several workers",
        "proxy.telemetry.worker_figures": "likewise, of this one",
    },
    "sqlite3": {
        "proxy.adapters.sqlite": "the embedded store",
        "proxy.adapters.sqlite_ledger": "the rows that two rooms write there",
        "proxy.*.embedded": "one feature's statements",
        "proxy.admission.embedded_absorption": "likewise, of what the operator bears",
        "proxy.admission.embedded_book": "likewise, of one tenant",
    },
    "ssl": {
        "proxy.adapters.redis_wire": "TLS to the state store",
        "proxy.adapters.http.*": "TLS to an upstream",
        "proxy.app.providers": "share one context",
    },
    "socket": {"proxy.adapters.http.*": "to an upstream", "proxy.edge.*": "from a caller"},
    "select": {
        "proxy.adapters.http.connection": "whether an idle connection has been closed",
        "proxy.edge.wakeups": "wait without an event loop",
        "proxy.telemetry.error_log": "whether a line would have to wait",
    },
    "selectors": {},
    "subprocess": {},
    "ctypes": {"proxy.adapters.core_dumps": "prctl(2), which Python does not have"},
    "resource": {"proxy.adapters.core_dumps": "the limit of a core file"},
    "multiprocessing": {},
    "pickle": {},
}

PURE = (
    *("proxy.core.*", "proxy.settings.*", "proxy.pricing.*", "proxy.dialects.*"),
    *("proxy.routing.resolve", "proxy.routing.rules", "proxy.routing.eligible", "proxy.routing.selection"),
    *(
        "proxy.routing.offers",
        "proxy.routing.strategy",
        "proxy.routing.switches",
        "proxy.routing.isolation",
        "proxy.routing.listing",
    ),
    *("proxy.identity.virtual_key", "proxy.identity.caller", "proxy.identity.tenant"),
    *("proxy.cache.fingerprint", "proxy.cache.policy", "proxy.cache.entry", "proxy.cache.memory"),
    *("proxy.admission.limits", "proxy.admission.caps", "proxy.admission.keys", "proxy.admission.figures"),
    *("proxy.admission.terms", "proxy.admission.answers", "proxy.admission.encoding", "proxy.admission.records"),
    *("proxy.admission.book", "proxy.admission.reserving", "proxy.admission.ending", "proxy.admission.hits"),
    *("proxy.admission.turns", "proxy.admission.shedding"),
    *("proxy.admission.estimate", "proxy.admission.ceilings", "proxy.admission.hosted_tools"),
    *("proxy.admission.visible_input", "proxy.admission.worst_rates"),
    *("proxy.keyring.envelope", "proxy.keyring.sealed_answer", "proxy.keyring.aead", "proxy.keyring.dek_cache"),
    *("proxy.keyring.dek", "proxy.keyring.record", "proxy.keyring.shape", "proxy.keyring.opened_cache"),
    *("proxy.upstream.headers", "proxy.upstream.payer", "proxy.upstream.breaker", "proxy.upstream.fallback"),
    *("proxy.upstream.throttle", "proxy.upstream.vitals", "proxy.upstream.retry_budget", "proxy.upstream.conditions"),
    *("proxy.ledger.entry", "proxy.ledger.cursor", "proxy.ledger.page", "proxy.ledger.chain"),
    "proxy.ledger.usage",
    "proxy.ledger.change",
    *(
        "proxy.pipeline.allowance",
        "proxy.pipeline.local_limits",
        "proxy.pipeline.price_list",
        "proxy.pipeline.refusals",
    ),
    "proxy.simulated.*",
    *(
        "proxy.edge.intake",
        "proxy.edge.problems",
        "proxy.edge.answer_head",
        "proxy.edge.framing",
        "proxy.edge.head",
        "proxy.edge.pace",
    ),
    "proxy.adapters.http.framing",
)
NOT_PURE = several("proxy.core.clock proxy.simulated proxy.simulated.transport")  # what keeps the time, and what waits
# The values and errors of a library that also does I/O, whose interface is that of our upstream hop.
PURE_PARTS = {"proxy.adapters.http.framing": several("httpx")}
IMPURE_IMPORTS = several(
    "asyncio socket time os random secrets uuid httpx ssl sqlite3 hiredis select selectors subprocess threading "
    "logging signal shutil tempfile starlette uvicorn uvloop prometheus_client boto3 urllib.request http.client"
)
IMPURE_CALLS = frozenset(
    {"open", "print", "input", "now", "utcnow", "today", "read_text", "read_bytes", "write_text", "write_bytes"}
)

# Where an import may stand inside a function: what is costly and only sometimes needed.
LAZY = ("proxy.adapters.*", "proxy.keyring.aead", "proxy.__main__", "proxy.cli", "proxy.cli.*")

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 400
MEDIAN_FUNCTION_LINES_MAX = 15
MEDIAN_MODULE_LINES_MAX = 150

DRAWERS = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "manager", "service", "handler", "base"})

KEY_NAMES = frozenset({"KeySource", "key_source"})  # a ledger column; the modules `keys.py` are the other exception
VERBS = several("get set find read write open make parse build check encode decode load store has is by to")

# What a module may call while it is imported: these make values and touch nothing.
VALUE_CALLS = several(
    "re.compile frozenset tuple len ord chr min max range str bytes int float b''.join ''.join sorted "
    "MappingProxyType types.MappingProxyType TypeVar ParamSpec NewType typing.NewType namedtuple "
    "struct.Struct Struct struct.pack Decimal Path Fraction timedelta timezone "
    "str.maketrans bytes.maketrans bytes.fromhex dict.fromkeys dict list set bytearray ContextVar logging.getLogger "
    "ip_network ip_address attrgetter itemgetter "
    "shared_name"  # text: the name of a Redis key
)
VALUE_METHODS = several("items values keys get join replace split lower upper encode decode maketrans union")
EMPTY = several("[] {} list() dict() set() bytearray() deque() defaultdict(list) defaultdict(dict) defaultdict(int)")
FILLED_BY = several(
    "append extend insert remove pop popitem clear update setdefault add discard appendleft popleft __setitem__"
)


@dataclass(frozen=True, slots=True)
class Module:
    """A parsed source file."""

    name: str  # proxy.core.types
    path: str  # proxy/core/types.py, from the repository's root
    source: str
    tree: ast.Module

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


def parse(path: str, source: str) -> Module:
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return Module(name, path, source, ast.parse(source, path))


def house() -> list[Module]:
    files = sorted((ROOT / "proxy").rglob("*.py"))
    return [parse(file.relative_to(ROOT).as_posix(), file.read_text()) for file in files]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """True where a pattern is the name; `a.b.*` is also `a.b` itself."""
    return any(fnmatchcase(name, pattern) or name == pattern.removesuffix(".*") for pattern in patterns)


def is_pure(name: str) -> bool:
    return matches(name, PURE) and name not in NOT_PURE


def imports(module: Module) -> Iterator[tuple[ast.stmt, str, tuple[str, ...]]]:
    """Each import: where, from which module, and which names of it."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            yield node, "." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)


def targets(imported: str, names: tuple[str, ...], known: frozenset[str]) -> set[str]:
    """The modules that one import reaches: `from proxy.core import jsonio` reaches proxy.core.jsonio."""
    return {f"{imported}.{name}" if f"{imported}.{name}" in known else imported for name in names} or {imported}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


# ── rooms ────────────────────────────────────────────────────────────────────────────────


def arrows_point_down(modules: list[Module]) -> list[str]:
    found = []
    for module in modules:
        if module.room and module.room not in LAYERS:
            found.append(f"{module.path}:1: the room {module.room!r} is in no layer. Give it one in LAYERS.")
            continue
        for node, imported, names in imports(module):
            if imported != "proxy" and not imported.startswith("proxy."):
                continue
            parts = imported.split(".")
            rooms = {parts[1]} if len(parts) > 1 else {name for name in names if name in LAYERS}
            for room in sorted(rooms - {module.room}):
                if LAYERS.get(room, 99) >= LAYERS.get(module.room, -1):
                    found.append(
                        f"{module.at(node)}: {module.room or 'proxy'} imports {room}, which is not below it. Take what "
                        "it needs as an argument, state a Protocol here, or move the shared type down."
                    )
    return found


def no_cycles(modules: list[Module]) -> list[str]:
    """At run time: two halves of one package may name each other's types."""
    known = frozenset(module.name for module in modules)
    left: dict[str, set[str]] = {module.name: set() for module in modules}
    for module in modules:
        for_types = type_only(module.tree)
        for node, imported, names in imports(module):
            if node not in for_types:
                left[module.name] |= targets(imported, names, known) & known - {module.name}
    # Take away, again and again, what imports nothing that is left, or is imported by nothing. Cycles stay.
    for _ in modules:
        wanted = set().union(*left.values())
        left = {name: leads & left.keys() for name, leads in left.items() if name in wanted and leads & left.keys()}
    paths = {module.name: module.path for module in modules}
    return [
        f"{paths[name]}:1: in an import cycle: {name} → {', '.join(sorted(leads))}. Move what both need into a third "
        "module below them."
        for name, leads in sorted(left.items())
    ]


def type_only(tree: ast.Module) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING:`."""
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {part for block in blocks for part in ast.walk(block)}


def doors_are_used(modules: list[Module]) -> list[str]:
    found = []
    for module in modules:
        for node, imported, _ in imports(module):
            library = imported.split(".")[0]
            if library in ("proxy", ""):
                continue
            if library in DOORS:
                if not matches(module.name, DOORS[library]):
                    doors = ", ".join(DOORS[library]) or "none"
                    found.append(
                        f"{module.at(node)}: imports {library}, whose only doors are: {doors}. Go through them."
                    )
            elif library not in sys.stdlib_module_names:
                found.append(
                    f"{module.at(node)}: {library} has no door. Write one into DOORS, and why into pyproject.toml."
                )
    return found


def pure_is_pure(modules: list[Module]) -> list[str]:
    known = frozenset(module.name for module in modules)
    found = []
    for module in modules:
        if not is_pure(module.name):
            continue
        for node, imported, names in imports(module):
            reached = targets(imported, names, known)
            impure = {name for name in reached if name in IMPURE_IMPORTS or name.split(".")[0] in IMPURE_IMPORTS}
            impure -= PURE_PARTS.get(module.name, frozenset())
            impure |= {name for name in reached & known if len(name.split(".")) > 2 and not is_pure(name)}
            found += [
                f"{module.at(node)}: a pure module imports {name}. Take the value as an argument." for name in impure
            ]
        for part in ast.walk(module.tree):
            if isinstance(part, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                # A Protocol may say `async def`: stating what another does is no I/O.
                found.append(
                    f"{module.at(part)}: async in a pure module. Return what is to be done; its parent does it."
                )
            elif isinstance(part, ast.Call):
                name = part.func.attr if isinstance(part.func, ast.Attribute) else getattr(part.func, "id", "")
                if name in IMPURE_CALLS:
                    found.append(f"{module.at(part)}: {name}() in a pure module. Take its result as an argument.")
    return found


def imports_stand_at_the_top(modules: list[Module]) -> list[str]:
    return [
        f"{module.at(node)}: an import inside {function.name}(). Put it at the top: only {LAZY} import lazily."
        for module in modules
        if not matches(module.name, LAZY)
        for function in functions(module.tree)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


# ── importing does nothing ───────────────────────────────────────────────────────────────


def importing_does_nothing(modules: list[Module]) -> list[str]:
    """Top level: imports, definitions and constants. No calls but VALUE_CALLS, VALUE_METHODS, classes of the same
    module and what pure modules define; no loops; no container that is empty, or filled later; no `global`."""
    found = []
    for module in modules:
        own = ast.FunctionDef | ast.ClassDef if is_pure(module.name) else ast.ClassDef
        harmless = {node.name for node in module.tree.body if isinstance(node, own)}
        harmless |= {name for _, source, names in imports(module) if is_pure(source) for name in names}
        for node in module.tree.body:
            found += _top_level_findings(module, node, harmless)
        for part in ast.walk(module.tree):
            if isinstance(part, ast.Global):
                found.append(f"{module.at(part)}: `global`. Keep the state in an object that proxy/app makes.")
        found += _unbounded_caches(module)
    return found


def _top_level_findings(module: Module, node: ast.stmt, harmless: set[str]) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return []  # a docstring
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
        return []
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return [f"{module.at(node)}: a statement that acts when the module is imported. Put it into a function."]
    found = []
    for part in ast.walk(node.value) if node.value else ():
        if isinstance(part, ast.Call):
            called = ast.unparse(part.func)
            of_a_constant = isinstance(part.func, ast.Attribute) and part.func.attr in VALUE_METHODS
            if called not in VALUE_CALLS | harmless and not of_a_constant:
                found.append(f"{module.at(part)}: calls {called}() when imported. Make it in proxy/app and hand it in.")
    names = {ast.unparse(each) for each in (node.targets if isinstance(node, ast.Assign) else [node.target])}
    empty = isinstance(node.value, ast.expr) and ast.unparse(node.value) in EMPTY
    if empty or names & _filled(module):
        found.append(f"{module.at(node)}: {', '.join(names)} is state of the whole process. Keep it in an object.")
    return found


def _filled(module: Module) -> set[str]:
    """The names that the module changes in place, by a method or an item."""
    filled = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FILLED_BY:
            filled.add(ast.unparse(node.func.value))
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            filled.add(ast.unparse(node.value))
    return filled


def _unbounded_caches(module: Module) -> list[str]:
    found = []
    for function in functions(module.tree):
        for decorator in function.decorator_list:
            text = ast.unparse(decorator).removeprefix("functools.")
            if text == "cache" or text in ("lru_cache", "lru_cache()") or "maxsize=None" in text:
                found.append(f"{module.at(decorator)}: a memory without a stated bound. Write lru_cache(maxsize=…).")
    return found


# ── sizes ────────────────────────────────────────────────────────────────────────────────


def code_lines(module: Module) -> set[int]:
    """The lines that hold code: no blanks, comments or docstrings."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def function_sizes(modules: Iterable[Module]) -> Iterator[tuple[str, str, int]]:
    for module in modules:
        lines = code_lines(module)
        for function in functions(module.tree):
            span = range(function.lineno, (function.end_lineno or function.lineno) + 1)
            yield module.at(function), function.name, len(lines.intersection(span))


def sizes_fit_on_a_screen(modules: list[Module]) -> list[str]:
    found = [
        f"{place}: {name}() has {lines} lines of code, and {FUNCTION_LINES_MAX} fit on a screen. Name its parts."
        for place, name, lines in function_sizes(modules)
        if lines > FUNCTION_LINES_MAX
    ]
    for module in modules:
        lines = module.source.count("\n")
        if lines > MODULE_LINES_MAX:
            found.append(f"{module.path}:{lines}: {lines} lines, of {MODULE_LINES_MAX} at most. Split it by noun.")
    return found


# ── names ────────────────────────────────────────────────────────────────────────────────


def public_names(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Names that another module may use: definitions, constants, fields, and parameters of public functions."""

    def of(body: list[ast.stmt]) -> Iterator[tuple[ast.AST, str]]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield node, node.name
                if not node.name.startswith("_"):
                    yield from of(node.body)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node, node.name
                if not node.name.startswith("_") or node.name == "__init__":
                    arguments = node.args
                    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                        yield argument, argument.arg
            elif isinstance(node, ast.Assign):
                yield from ((node, each.id) for each in node.targets if isinstance(each, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node, node.target.id

    return ((node, name) for node, name in of(module.tree.body) if not name.startswith("_"))


def words(name: str) -> list[str]:
    return [word for word in re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_") if word]


def keys_say_which(modules: list[Module]) -> list[str]:
    found = []
    for module in modules:
        for node, name in public_names(module):
            if name in KEY_NAMES:
                continue
            parts = words(name)
            for place, word in enumerate(parts):
                if word in ("key", "keys") and (place == 0 or parts[place - 1] in VERBS):
                    found.append(f"{module.at(node)}: {name}: which key? virtual_key, provider_key, cache_key, …")
    return found


def no_drawers(modules: list[Module]) -> list[str]:
    found = []
    for module in modules:
        for part in module.name.split(".")[1:]:
            if DRAWERS.intersection(words(part)):
                found.append(f"{module.path}:1: {part} is a drawer. Name the module after what it knows.")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and DRAWERS.intersection(words(node.name)):
                found.append(f"{module.at(node)}: {node.name} is a drawer. Name the class after what it is.")
    return found


def script_states_its_contract(path: str, source: str) -> list[str]:
    """A Redis script says first what it is for, then its KEYS, its ARGV and what it returns."""
    name = path.rsplit("/", 1)[-1]
    head = re.match(r"(?:--.*\n|\n)*", source)
    comment = head.group() if head else ""
    found = []
    if not comment.startswith(f"-- {name}: "):
        found.append(f"{path}:1: begin with `-- {name}: what it does`.")
    for word in ("KEYS", "ARGV", "Returns"):
        if not re.search(rf"^--.*\b{word}\b", comment, re.MULTILINE):
            found.append(f"{path}:1: the comment at its head does not state {word}.")
    return found


# ── the house as it stands ───────────────────────────────────────────────────────────────

RULES: dict[str, Callable[[list[Module]], list[str]]] = {
    rule.__name__: rule
    for rule in (
        arrows_point_down,
        no_cycles,
        doors_are_used,
        pure_is_pure,
        imports_stand_at_the_top,
        importing_does_nothing,
        sizes_fit_on_a_screen,
        keys_say_which,
        no_drawers,
    )
}


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    found = house()
    assert len(found) > 20, "the house was not found"
    return found


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps(rule: str, modules: list[Module]) -> None:
    found = RULES[rule](modules)
    assert not found, "\n" + "\n".join(found)


def test_medians(modules: list[Module]) -> None:
    function_lines = statistics.median(lines for _, _, lines in function_sizes(modules))
    module_lines = statistics.median(m.source.count("\n") for m in modules if not m.path.endswith("__init__.py"))
    said = f"median function: {function_lines} lines of code; median module: {module_lines} lines"
    assert function_lines <= MEDIAN_FUNCTION_LINES_MAX, said
    assert module_lines <= MEDIAN_MODULE_LINES_MAX, said


def test_scripts_state_their_contract() -> None:
    found = []
    for script in sorted((ROOT / "proxy").rglob("*.lua")):
        found += script_states_its_contract(script.relative_to(ROOT).as_posix(), script.read_text())
    assert not found, "\n" + "\n".join(found)


# ── planted mistakes ─────────────────────────────────────────────────────────────────────

CORE, ROUTE, LEDGER = "proxy/core/types.py", "proxy/routing/resolve.py", "proxy/ledger/store.py"


@pytest.mark.parametrize(
    ("rule", "files", "places"),
    [
        ("arrows_point_down", {CORE: "import proxy.settings.model\n"}, [f"{CORE}:1"]),
        ("arrows_point_down", {CORE: "x = 1\nfrom proxy import edge\n"}, [f"{CORE}:2"]),
        ("arrows_point_down", {ROUTE: "from proxy.ledger.entry import Entry\n"}, [f"{ROUTE}:1"]),  # siblings
        ("arrows_point_down", {ROUTE: "def f():\n    from proxy.app import create_app\n"}, [f"{ROUTE}:2"]),
        ("arrows_point_down", {"proxy/attic.py": "x = 1\n"}, ["proxy/attic.py:1"]),
        ("arrows_point_down", {"proxy/__init__.py": "from proxy.app import create_app\n"}, ["proxy/__init__.py:1"]),
        ("arrows_point_down", {ROUTE: "from proxy.core.types import Call\nfrom proxy.routing import listing\n"}, []),
        (
            "no_cycles",
            {CORE: "from proxy.core import clock\n", "proxy/core/clock.py": "import proxy.core.types\n"},
            [
                "proxy/core/clock.py:1",
                f"{CORE}:1",
            ],
        ),
        ("no_cycles", {CORE: "from proxy.core import clock\n", "proxy/core/clock.py": "import time\n"}, []),
        (
            "no_cycles",
            {
                CORE: "from proxy.core import clock\n",
                "proxy/core/clock.py": "if TYPE_CHECKING:\n    import proxy.core.types\n",
            },
            [],
        ),
        ("doors_are_used", {LEDGER: "import sqlite3\n"}, [f"{LEDGER}:1"]),
        ("doors_are_used", {LEDGER: "from hiredis import Reader\n"}, [f"{LEDGER}:1"]),
        ("doors_are_used", {LEDGER: "import yaml\n"}, [f"{LEDGER}:1"]),
        ("doors_are_used", {"proxy/core/jsonio.py": "import orjson\n", LEDGER: "import hashlib\n"}, []),
        ("pure_is_pure", {ROUTE: "import time\n"}, [f"{ROUTE}:1"]),
        ("pure_is_pure", {ROUTE: "async def f(): ...\n"}, [f"{ROUTE}:1"]),
        ("pure_is_pure", {ROUTE: "x = 1\ny = datetime.now(UTC)\n"}, [f"{ROUTE}:2"]),
        (
            "pure_is_pure",
            {ROUTE: "from proxy.core import clock\n", "proxy/core/clock.py": "import time\n"},
            [f"{ROUTE}:1"],
        ),
        ("pure_is_pure", {LEDGER: "import asyncio\n", ROUTE: "import re\n"}, []),
        ("imports_stand_at_the_top", {ROUTE: "def f():\n    import re\n"}, [f"{ROUTE}:2"]),
        ("imports_stand_at_the_top", {"proxy/adapters/redis_wire.py": "def f():\n    import hiredis\n"}, []),
        ("importing_does_nothing", {LEDGER: "SEEN = {}\n"}, [f"{LEDGER}:1"]),
        ("importing_does_nothing", {LEDGER: "SEEN: set[str] = set()\n"}, [f"{LEDGER}:1"]),
        ("importing_does_nothing", {LEDGER: "N = {'a': 1}\ndef f():\n    N['b'] = 2\n"}, [f"{LEDGER}:1"]),
        ("importing_does_nothing", {LEDGER: "N = ['a']\ndef f():\n    N.append('b')\n"}, [f"{LEDGER}:1"]),
        ("importing_does_nothing", {LEDGER: "import os\nHOME = os.getenv('HOME')\n"}, [f"{LEDGER}:2"]),
        ("importing_does_nothing", {LEDGER: "connect()\n"}, [f"{LEDGER}:1"]),
        ("importing_does_nothing", {LEDGER: "for x in (1,):\n    print(x)\n"}, [f"{LEDGER}:1"]),
        ("importing_does_nothing", {LEDGER: "N = 0\ndef f():\n    global N\n    N = 1\n"}, [f"{LEDGER}:3"]),
        ("importing_does_nothing", {LEDGER: "@lru_cache(maxsize=None)\ndef f(): ...\n"}, [f"{LEDGER}:1"]),
        ("importing_does_nothing", {LEDGER: "@functools.cache\ndef f(): ...\n"}, [f"{LEDGER}:1"]),
        ("importing_does_nothing", {LEDGER: "'''Why.'''\nimport re\nN = re.compile('a')\nM = {'a': 1}\n"}, []),
        ("sizes_fit_on_a_screen", {ROUTE: "def f():\n" + "    x = 1\n" * 60}, [f"{ROUTE}:1"]),
        (
            "sizes_fit_on_a_screen",
            {ROUTE: "def f():\n    '''" + "a\n" * 40 + "'''\n    # why\n" + "    x = 1\n" * 59},
            [],
        ),
        ("sizes_fit_on_a_screen", {ROUTE: "x = 1\n" * 401}, [f"{ROUTE}:401"]),
        ("keys_say_which", {ROUTE: "def seal(key): ...\n"}, [f"{ROUTE}:1"]),
        ("keys_say_which", {ROUTE: "class A:\n    key_id: str\n"}, [f"{ROUTE}:2"]),
        ("keys_say_which", {ROUTE: "class A:\n    def get_key(self): ...\n"}, [f"{ROUTE}:2"]),
        ("keys_say_which", {ROUTE: "def f(cache_key, *, virtual_keys):\n    key = 1\ndef _f(key): ...\n"}, []),
        ("no_drawers", {"proxy/core/utils.py": ""}, ["proxy/core/utils.py:1"]),
        ("no_drawers", {"proxy/core/base_store.py": ""}, ["proxy/core/base_store.py:1"]),
        ("no_drawers", {ROUTE: "x = 1\nclass RouteManager: ...\n"}, [f"{ROUTE}:2"]),
        ("no_drawers", {"proxy/core/database.py": "class Baseline: ...\n"}, []),
    ],
)
def test_a_planted_mistake_is_found(rule: str, files: dict[str, str], places: list[str]) -> None:
    found = RULES[rule]([parse(path, source) for path, source in files.items()])
    assert [line.split(": ")[0] for line in found] == places


def test_every_rule_has_a_planted_mistake() -> None:
    marks = test_a_planted_mistake_is_found.pytestmark  # type: ignore[attr-defined]
    rows = marks[0].args[1]
    assert {rule for rule, _, places in rows if places} == set(RULES)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("-- settle.lua: settles.\n-- KEYS  1 cap\n-- ARGV  1 cost_nusd\n-- Returns {code}.\nreturn {1}\n", 0),
        ("-- settle.lua: settles.\n-- KEYS  1 cap\n-- ARGV  1 cost_nusd\nreturn {1} -- Returns {code}\n", 1),
        ("return KEYS[1] .. ARGV[1]\n", 4),
    ],
)
def test_a_script_without_its_contract_is_found(source: str, count: int) -> None:
    assert len(script_states_its_contract("proxy/admission/settle.lua", source)) == count
