"""How the rooms of the recipe hang together; `pyproject.toml` says in which direction."""

import grimp

RECIPE = "recipe.shape_grpo"


def room(module):
    return module.removeprefix(f"{RECIPE}.").split(".")[0]


def test_few_arrows_run_between_the_rooms():
    graph = grimp.build_graph("recipe")
    modules = {name for name in graph.modules if name.startswith(f"{RECIPE}.")}
    arrows = {
        (room(importer), room(imported))
        for importer in modules
        for imported in graph.find_modules_directly_imported_by(importer) & modules
        if room(importer) != room(imported)
    }
    assert ("quickstart", "tasks") in arrows
    assert len(arrows) <= 24, sorted(arrows)
