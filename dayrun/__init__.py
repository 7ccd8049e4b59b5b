"""dayrun: a recipe in, a text-to-image model in a day, at a price told beforehand.

This package is the contract that every other part imports (recipe, run folder, objects, client, CLI). It knows neither torch nor
a web framework, and importing it must stay cheap: heavier parts load on first use.
"""

__version__ = "0.1.0"
