"""`latentface upscale`: faces and photographs in, larger ones out."""

from latentface.cli.console import Talk
from latentface.cli.options import MachineSettings, OutputSettings
from latentface.errors import InputError
from latentface.restore.settings import PhotoSettings, UpscaleSettings


def upscale(
    *inputs: str,
    settings: UpscaleSettings = UpscaleSettings(),
    photos: PhotoSettings = PhotoSettings(),
    machine: MachineSettings = MachineSettings(),
    out: OutputSettings = OutputSettings(),
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
    if not inputs:
        raise InputError("name at least one picture, folder or zip")
    out = out.for_inputs(inputs)
    out.check(settings.count, settings.answer)
    from latentface.cli.run import Run
    from latentface.io.inputs import list_inputs
    from latentface.restore.upscaler import Upscaler

    listing = list_inputs(inputs, leave_out=out.folder)
    if out.single and len(listing.inputs) > 1:
        raise InputError(
            f"{out.output} is one file, but {len(listing.inputs)} pictures were named; give a folder with -o"
        )
    talk = Talk(out.quiet)
    upscaler = Upscaler(
        machine.prior,
        judge=machine.judge,
        device=machine.device,
        settings=settings,
        photo=photos,
        background=machine.background,
        batch_size=machine.batch,
        offline=machine.offline,
        whole_faces=out.save_faces,
        say=talk.say,
    )
    run = Run(upscaler, talk, out, "aligned" if machine.aligned else "photo" if machine.photo else "auto")
    return run.all(listing)
