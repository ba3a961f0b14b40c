"""`latentface upscale`: faces and photographs in, larger ones out."""

from typing import Any

from latentface.cli.console import Talk
from latentface.cli.options import MachineSettings, OutputSettings
from latentface.cluster.settings import ClusterSettings
from latentface.errors import InputError, require
from latentface.restore.settings import PhotoSettings, UpscaleSettings


def upscale(
    *inputs: str,
    settings: UpscaleSettings = UpscaleSettings(),
    photos: PhotoSettings = PhotoSettings(),
    machine: MachineSettings = MachineSettings(),
    out: OutputSettings = OutputSettings(),
    cluster: ClusterSettings = ClusterSettings(),
) -> int:
    """Enlarge photographs and the faces in them, or aligned faces.

    A square picture smaller than the prior's faces, in which a face stands as in the prior's pictures (or one of at most
    12 px without any face that is found), is an aligned face, and becomes one large face. Everything else is a
    photograph: its faces are found, enlarged and pasted back. A mosaic is taken at its true size first.

    Parameters
    ----------
    inputs
        Files, folders (with subfolders), globs, zips, or - for a picture from standard input.
    """
    if not inputs and not (out.manifest is not None and out.manifest.exists()):
        raise InputError("name at least one picture, folder or zip")
    out = out.for_inputs(inputs)
    out.check(settings.count, settings.answer)
    if cluster.ray is not None:
        require("ray", "ray", "--ray")
        if out.save_steps:
            raise InputError("--save-steps is of searches on this machine; leave it out with --ray")
    elif out.manifest is not None:
        raise InputError("--manifest is for runs on a cluster; add --ray auto, or leave it out")
    from latentface.cli.upscaling import Run
    from latentface.io.inputs import list_inputs
    from latentface.io.manifest import Manifest, list_manifest
    from latentface.restore.upscaler import Kind, Upscaler

    manifest = out.manifest
    listing = (
        list_inputs(inputs, leave_out=out.folder) if manifest is None else list_manifest(manifest, inputs, out.place)
    )
    if out.single and len(listing.inputs) > 1:
        raise InputError(
            f"{out.output} is one file, but {len(listing.inputs)} pictures were named; give a folder with -o"
        )
    talk = Talk(out.quiet)
    if isinstance(listing.inputs, Manifest):
        talk.say(f"{manifest}: {listing.inputs.words}")
    kind: Kind = "aligned" if machine.aligned else "photo" if machine.photo else "auto"
    given: dict[str, Any] = {
        "prior": machine.prior,
        "judge": machine.judge,
        "batch_size": machine.batch,
        "offline": machine.offline,
        "settings": settings,
    }
    upscaler = Upscaler(
        **given,
        device=machine.device if cluster.ray is None else "cpu",
        photo=photos,
        background=machine.background,
        whole_faces=out.save_faces,
        say=talk.say,
    )
    if cluster.ray is None:
        return Run(upscaler, talk, out, kind).all(listing)
    from latentface.cli.spread import Key, SpreadRun
    from latentface.cluster.faces import Spread

    spread: Spread[Key]
    with Spread(cluster, upscaler, given, device=machine.device, say=talk.say) as spread:
        return SpreadRun(upscaler, talk, out, kind, spread=spread).all(listing)
