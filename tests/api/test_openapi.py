"""/openapi.json is what the actors announced, valid by somebody else's validator."""

import json
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "openapi"
BUILD = pathlib.Path(os.environ.get("BUSBAR_BUILD", ROOT / "build")) / "openapi"


def validator():
    """The validator, installed once into the build directory."""
    if not (BUILD / "node_modules").is_dir():
        BUILD.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", "check.mjs"):
            shutil.copy(SOURCE / name, BUILD / name)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
                       cwd=BUILD, check=True, timeout=180)
    shutil.copy(SOURCE / "check.mjs", BUILD / "check.mjs")
    return ["node", str(BUILD / "check.mjs")]


def test_the_document_is_valid(anyone):
    document = anyone.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    done = subprocess.run(validator(), input=json.dumps(document), text=True, capture_output=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr[:4000]


def test_both_addresses_give_the_same_document(anyone):
    assert anyone.get("/openapi.json") == anyone.get("/api/v1/openapi.json")


def test_every_announced_route_is_in_it(anyone, operator):
    paths = anyone.get("/openapi.json")["paths"]
    rows = [route for entry in operator.call("broker.directory")["entries"]
            for route in entry.get("routes") or [] if route.get("path")]
    assert len(rows) > 40
    for route in rows:
        path = "/".join("{%s}" % part[1:] if part.startswith(":") else part
                        for part in route["path"].split("/"))
        assert route["verb"].lower() in paths[path], route["path"]


def test_the_pages_that_show_it_need_nothing_from_elsewhere(anyone):
    for path in ("/docs", "/redoc"):
        page = anyone.get(path)
        assert "openapi.json" in page
        assert "http://" not in page and "https://" not in page
