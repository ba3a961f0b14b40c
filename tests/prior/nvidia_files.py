"""NVIDIA's pickles in the layout of their releases, written here from networks of ours; nothing of theirs is needed.

A module is a call of `torch_utils.persistence._reconstruct_persistent_obj` with the source of its class and its state.
The stand-ins for their modules are there only while a pickle is written.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import torch

SOURCE = "open({mark!r}, 'w').write('run')  # their source, which would be executed\n"


class EasyDict(dict):
    """`dnnlib.util.EasyDict`."""


class Network:
    """`dnnlib.tflib.network.Network`."""

    def __init__(self, arguments, variables, components=None, version=4):
        self.state = {
            "version": version,
            "name": "G",
            "static_kwargs": easy(arguments),
            "components": easy(components or {}),
            "build_module_src": SOURCE,
            "build_func_name": "G_main",
            "variables": variables,
        }

    def __getstate__(self):
        return self.state


class Module:
    """A persistent module: class, parameters, buffers, modules in it, and further state."""

    def __init__(self, kind, source=SOURCE, **state):
        self.kind, self.source = kind, source
        self.state = {
            "training": False,
            "_parameters": OrderedDict(),
            "_buffers": OrderedDict(),
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_modules": OrderedDict(),
            **state,
        }

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": self.kind, "state": self.state}
        return _reconstruct_persistent_obj, (meta,)


def _reconstruct_persistent_obj(meta):
    raise AssertionError("nothing of a pickle is called")


def easy(items):
    return EasyDict(items)


STANDINS = (
    ("torch_utils.persistence", "_reconstruct_persistent_obj", _reconstruct_persistent_obj),
    ("dnnlib.util", "EasyDict", EasyDict),
    ("dnnlib.tflib.network", "Network", Network),
)


@contextlib.contextmanager
def their_modules():
    """Let pickles name their modules."""
    made, names = [], []
    for module, name, thing in STANDINS:
        parts = module.split(".")
        for i in range(len(parts)):
            whole = ".".join(parts[: i + 1])
            if whole not in sys.modules:
                sys.modules[whole] = types.ModuleType(whole)
                made.append(whole)
        setattr(sys.modules[module], name, thing)
        names.append((thing, thing.__module__, thing.__qualname__))
        thing.__module__, thing.__qualname__ = module, name
    try:
        yield
    finally:
        for thing, module, qualname in names:
            thing.__module__, thing.__qualname__ = module, qualname
        for whole in made:
            del sys.modules[whole]


def dumped(content, protocol=4):
    """Return a pickle's bytes."""
    with their_modules():
        return pickle.dumps(content, protocol=protocol)


def tree(
    state,
    facts,
    place="",
    buffers=(
        "noise_const",
        "w_avg",
        "resample_filter",
        "magnitude_ema",
        "up_filter",
        "down_filter",
        "transform",
        "freqs",
        "phases",
    ),
):
    """Return modules of a state dict; `facts(place)` gives class and further state of each."""
    kind, more = facts(place)
    module = Module(kind, **more)
    for name, value in state.items():
        head, _, rest = name.partition(".")
        if not rest:
            if head in buffers:
                module.state["_buffers"][head] = value.detach().clone()
            else:
                module.state["_parameters"][head] = torch.nn.Parameter(value.detach().clone(), requires_grad=False)
        elif head not in module.state["_modules"]:
            inner = {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{head}.")}
            module.state["_modules"][head] = tree(inner, facts, f"{place}.{head}" if place else head, buffers)
    return module


FILTER = torch.outer(*(torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8,) * 2)


def stylegan2(generator, **changes):
    """Return a StyleGAN2 generator's module."""
    arch = generator.arch

    def facts(place):
        last = place.rpartition(".")[2]
        if not place:
            sizes = {"z_dim": arch.z_dim, "w_dim": arch.w_dim, "c_dim": 0, "img_channels": 3, "num_ws": arch.num_ws}
            init = {
                "_init_kwargs": easy({"mapping_kwargs": easy({"num_layers": arch.mapping_layers})}),
                "_init_args": (),
            }
            return "Generator", {**sizes, "img_resolution": arch.resolution, **init, **changes}
        if last in ("conv0", "conv1"):
            return "SynthesisLayer", {"activation": "lrelu", "conv_clamp": arch.clamp, "use_noise": True}
        if last == "torgb":
            return "ToRGBLayer", {"conv_clamp": arch.clamp}
        if last[0] == "b":
            return "SynthesisBlock", {"architecture": "skip"}
        if place.startswith("mapping.fc"):
            return "FullyConnectedLayer", {"activation": "lrelu", "bias_gain": 0.01, "weight_gain": np.float64(0.5)}
        return "Network", {}

    filters = {f"synthesis.b{r}.conv0.resample_filter": FILTER for r in arch.channels if r > 4}
    return tree({**generator.state_dict(), **filters}, facts)


def discriminator(network, **changes):
    """Return a discriminator's module."""
    arch = network.arch

    def facts(place):
        last = place.rpartition(".")[2]
        if not place:
            return "Discriminator", {"c_dim": 0, "img_channels": 3, "img_resolution": arch.resolution, **changes}
        if last in ("conv", "conv0", "conv1", "fromrgb"):
            return "Conv2dLayer", {"activation": "lrelu", "conv_clamp": arch.clamp}
        if last == "skip":
            return "Conv2dLayer", {"activation": "linear", "conv_clamp": None}
        return "Block", {"architecture": "resnet"} if last[0] == "b" else {}

    made = tree(network.state_dict(), facts)
    group = arch.mbstd_group if arch.mbstd_group < 1 << 20 else None
    made.state["_modules"]["b4"].state["_modules"]["mbstd"] = Module("Std", group_size=group, num_channels=1)
    return made


def stylegan3(generator, layers, **changes):
    """Return a StyleGAN3 generator's module, of `stylegan3_reference`'s generator and plan."""
    arch = generator.arch
    rates = [one["rate"] for one in layers[:-1]]
    ours = [f"synthesis.b{rate}.layer{i - rates.index(rate)}" for i, rate in enumerate(rates)] + ["synthesis.torgb"]
    theirs = [f"synthesis.L{i}_{one['out_side']}_{one['outputs']}" for i, one in enumerate(layers)]
    state = {}
    for name, value in generator.state_dict().items():
        own = next((i for i, place in enumerate(ours) if name.startswith(f"{place}.")), None)
        if own is not None:
            name = theirs[own] + name.removeprefix(ours[own])
        state[name.replace(f"synthesis.b{rates[0]}.input", "synthesis.input")] = value

    def facts(place):
        if not place:
            sizes = {"z_dim": arch.z_dim, "w_dim": arch.w_dim, "c_dim": 0, "img_channels": 3}
            return "Generator", {**sizes, "img_resolution": arch.resolution, **changes}
        if place == "synthesis":
            return "SynthesisNetwork", {"output_scale": arch.scale, "num_layers": len(layers) - 1}
        if place == "synthesis.input":
            size = np.array([arch.input_side] * 2)
            return "SynthesisInput", {
                "size": size,
                "sampling_rate": np.float64(arch.input_rate),
                "bandwidth": np.float64(arch.bandwidth),
            }
        if place in theirs:
            one = layers[theirs.index(place)]
            sides = {f"{k}_size": np.array([one[f"{k}_side"]] * 2) for k in ("in", "out")}
            factors = {"up_factor": one["up"], "down_factor": one["down"], "padding": [*one["pad"], *one["pad"]]}
            return "SynthesisLayer", {"conv_clamp": 256, "out_sampling_rate": one["rate"], **sides, **factors}
        return "FullyConnectedLayer", {"activation": "lrelu", "bias_gain": 0.01} if "mapping.fc" in place else {}

    return tree(state, facts)


def snapshot(g, d=None):
    """Return what a snapshot of theirs holds."""
    return {
        "G": g,
        "D": d,
        "G_ema": g,
        "augment_pipe": Module("AugmentPipe", p=torch.tensor(0.5)),
        "training_set_kwargs": easy({"class_name": "training.dataset.ImageFolderDataset", "path": "x.zip"}),
    }


def tensorflow(generator, network):
    """Return the three networks of a TensorFlow pickle."""
    g, d = ({k: v.detach().numpy() for k, v in n.state_dict().items()} for n in (generator, network))
    arch = generator.arch
    mapping = [
        (f"Dense{i}/{k}", g[f"mapping.fc{i}.{k}"].T) for i in range(arch.mapping_layers) for k in ("weight", "bias")
    ]
    drawn = [("4x4/Const/const", g["synthesis.b4.const"][None])]
    number = 0
    for r in arch.channels:
        for ours, theirs in {"conv0": "Conv0_up", "conv1": "Conv" if r == 4 else "Conv1", "torgb": "ToRGB"}.items():
            place, name = f"synthesis.b{r}.{ours}", f"{r}x{r}/{theirs}"
            if f"{place}.weight" not in g:
                continue
            weight = g[f"{place}.weight"].transpose(2, 3, 1, 0)
            drawn += [
                (f"{name}/weight", weight[::-1, ::-1] if ours == "conv0" else weight),
                (f"{name}/bias", g[f"{place}.bias"]),
            ]
            drawn += [
                (f"{name}/mod_weight", g[f"{place}.affine.weight"].T),
                (f"{name}/mod_bias", g[f"{place}.affine.bias"] - 1),
            ]
            if ours != "torgb":
                drawn += [(f"{name}/noise_strength", np.float32(g[f"{place}.noise_strength"]))]
                drawn += [(f"noise{number}", g[f"{place}.noise_const"][None, None])]
                number += 1
    top = network.arch.resolution
    judged = [("4x4/Conv/weight", d["b4.conv.weight"].transpose(2, 3, 1, 0)), ("4x4/Conv/bias", d["b4.conv.bias"])]
    for ours, theirs in (("fc", "4x4/Dense0"), ("out", "Output")):
        judged += [(f"{theirs}/weight", d[f"b4.{ours}.weight"].T), (f"{theirs}/bias", d[f"b4.{ours}.bias"])]
    for r in network.resolutions:
        names = {
            "conv0": "Conv0",
            "conv1": "Conv1_down",
            "skip": "Skip",
            **({"fromrgb": "FromRGB"} if r == top else {}),
        }
        for ours, theirs in names.items():
            judged.append((f"{r}x{r}/{theirs}/weight", d[f"b{r}.{ours}.weight"].transpose(2, 3, 1, 0)))
            if ours != "skip":
                judged.append((f"{r}x{r}/{theirs}/bias", d[f"b{r}.{ours}.bias"]))
    arguments = {"resolution": arch.resolution, "num_channels": 3, "label_size": 0, "resample_kernel": [1, 3, 3, 1]}
    parts = {"mapping": Network({}, mapping), "synthesis": Network({}, drawn)}
    g_net = Network(
        {**arguments, "mapping_lrmul": 0.01}, [("lod", np.float32(0)), ("dlatent_avg", g["mapping.w_avg"])], parts
    )
    d_net = Network({**arguments, "architecture": "resnet", "mbstd_group_size": network.arch.mbstd_group}, judged)
    return g_net, d_net, g_net
