"""Machine code that Numba keeps must not outlive the sources it was made from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import poisonsim.compiled as compiled
from poisonsim.engine.kernel import simulate
from poisonsim.faults.growth import merge


@pytest.mark.skipif(not hasattr(simulate, "_cache"), reason="Numba does not compile here")
@pytest.mark.parametrize("function", [simulate, merge])
def test_every_cached_function_carries_the_digest_of_all_sources(function: object) -> None:
    assert function._cache._cache_file._source_stamp == compiled.sources_digest()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kept", "signatures", "must"), [({}, [], True), ({"x": 1}, [], False), ({}, ["x"], False)])
def test_what_is_neither_loaded_nor_kept_must_be_compiled(kept: object, signatures: list[str], must: bool) -> None:
    index = SimpleNamespace(_load_index=lambda: kept)
    made = SimpleNamespace(_cache=SimpleNamespace(_cache_file=index), signatures=signatures)
    assert compiled.must_compile(made) is must


def test_numba_tells_what_its_cache_holds() -> None:
    if hasattr(simulate, "_cache"):
        assert isinstance(simulate._cache._cache_file._load_index(), dict)
    assert compiled.must_compile(lambda: None) is False


@pytest.mark.skipif(not hasattr(simulate, "_cache"), reason="Numba does not compile here")
def test_a_constant_of_another_module_that_changes_is_seen(tmp_path: Path) -> None:
    """Numba alone goes on with 1: the file of the function is as it was."""
    package = tmp_path / "poisonsim"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "compiled.py").write_text(Path(compiled.__file__).read_text())
    (package / "use.py").write_text(
        "from poisonsim.compiled import compiled\nfrom poisonsim.constant import C\n\n"
        "@compiled\ndef f(x):\n    return x + C\n\nprint(f(0))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for constant in (1, 2):
        (package / "constant.py").write_text(f"C = {constant}\n")
        command = [sys.executable, "-c", "import poisonsim.use"]
        found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert found.stdout == f"{constant}\n"


def doubled(x: int) -> int:
    return 2 * x


@pytest.mark.skipif(not hasattr(simulate, "_cache"), reason="Numba does not compile here")
def test_where_nothing_can_be_kept_it_is_compiled_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only install of a user without a home."""
    from numba.core.caching import CompileResultCacheImpl

    kept = compiled.compiled(doubled)
    assert kept(2) == 4 and compiled.kept_in(kept) is not None
    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    lost = compiled.compiled(doubled)
    assert compiled.kept_in(lost) is None and compiled.must_compile(lost)
    assert lost(2) == 4 and not compiled.must_compile(lost)
