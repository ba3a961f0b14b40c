"""The page: what stands where, and what happens at which event."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from latentface.errors import LatentfaceError
from latentface.restore.choices import FORMATS, method_lines
from latentface.restore.engine import NOTICE
from latentface.restore.live import Progress
from latentface.restore.settings import UpscaleSettings, face_numbers
from latentface.restore.upscaler import Result
from latentface.restore.views import COLUMNS, before_and_after, face_rows, faces_made, numbered, to_choose
from latentface.restore.write import write_all
from latentface.web import limits
from latentface.web.desk import Desk
from latentface.web.shown import LIVE, line, notice, slider

WIDE = 1400  # px of a picture on the page at most
KINDS = [("automatic", "auto"), ("photograph", "photo"), ("aligned face", "aligned")]
FACTORS = [("2; a single face as large as can be", 0), *((f"{n}", n) for n in (1, 2, 3, 4, 6, 8, 16))]
PICTURE = ("picture", "kind", "prior")
SEARCH = ("method", "factor", "steps", "seed", "samples", "strength")
ABOUT = """# latentface
Enlarge the faces of a small or old photograph, or a single small face. Choose a picture, tick its faces, press *Enlarge*."""
Changes = dict[Any, Any]  # of the page's parts
GONE, OFF, ON = {"visible": False}, {"interactive": False}, {"interactive": True}


class Page:
    """The page of one server.

    Args:
        queue: visitors that may wait, at most. examples: pictures with their names; cited: where they come from.
    """

    def __init__(self, desk: Desk, queue: int, examples: Mapping[Path, str], cited: str = "") -> None:
        self.desk = desk
        self.parts: dict[str, Any] = {}
        with gr.Blocks(title="latentface", analytics_enabled=False, delete_cache=limits.CLEARED) as self.blocks:
            gr.Markdown(ABOUT)
            gr.HTML(notice(NOTICE))
            with gr.Row():
                with gr.Column(min_width=320):
                    self._inputs(examples, cited)
                with gr.Column(min_width=320):
                    self._outputs()
            gr.Markdown(limits.WORDS.format(queue=queue, minutes=desk.seconds / 60))
            self._events()
        self.blocks.queue(max_size=queue)

    def _add(self, name: str, kind: Any, *values: Any, **more: Any) -> None:
        self.parts[name] = kind(*values, elem_id=name, **more)

    def _inputs(self, examples: Mapping[Path, str], cited: str) -> None:
        add, sources = self._add, ["upload", "clipboard", "webcam"]
        add("picture", gr.Image, label="Picture", type="filepath", image_mode=None, sources=sources, height=320)
        picture = self.parts["picture"]
        picture.preprocess = lambda given: given and given.path  # `restore` decodes the file, or says why not
        gr.Examples([[str(path)] for path in examples], [picture], example_labels=[*examples.values()])
        gr.Markdown(cited, visible=bool(cited))
        priors = [(f"{prior.name} (faces of {prior.resolution} px)", name) for name, prior in self.desk.priors.items()]
        methods = [(f"{name}: {words}", name) for name, words in method_lines().items()]
        slower, usual = "The larger, the finer and the slower.", "0: as many as the method takes."
        add("prior", gr.Dropdown, priors, value=priors[0][1], label="Prior", info=slower)
        add("factor", gr.Dropdown, FACTORS, value=0, label="Factor")
        many = {"label": "Candidates of each face", "info": "They differ in what is invented."}
        add("samples", gr.Slider, 1, limits.SAMPLES, 1, step=1, **many)
        with gr.Accordion("More", open=False, elem_id="more"):
            add("kind", gr.Radio, KINDS, value="auto", label="The picture is a")
            add("method", gr.Dropdown, methods, value=methods[0][1], label="Method")
            add("steps", gr.Slider, 0, limits.STEPS, 0, step=1, label="Steps", info=usual)
            strong = "0: the plain enlargement, 1: the face that was found."
            add("strength", gr.Slider, 0, 1, 1, step=0.05, label="Strength", info=strong)
            add("seed", gr.Number, 0, label="Seed", precision=0, minimum=0, maximum=2**31)
            add("ending", gr.Radio, [*FORMATS], value=FORMATS[0], label="Format of the result")

    def _outputs(self) -> None:
        add, bare, alone = self._add, {"visible": False, "buttons": []}, {"buttons": ["fullscreen"]}
        add("boxes", gr.Image, show_label=False, alt_text="the faces with their numbers", visible=False, **alone)
        add("faces", gr.CheckboxGroup, label="Faces to enlarge", visible=False)
        add("status", gr.HTML, line("Choose a picture"), js_on_load=LIVE)
        with gr.Row():
            add("run", gr.Button, "Enlarge", variant="primary", interactive=False)
            add("stop", gr.Button, "Stop, keep the best", variant="stop", visible=False)
        with gr.Column(visible=False, elem_id="results") as self.parts["results"]:
            add("compare", gr.HTML)
            add("save", gr.DownloadButton, "Download the picture", variant="primary")
            gr.HTML(notice(NOTICE))
            add("made", gr.Gallery, label="Every face that was made", columns=2, **alone)
            add("table", gr.Dataframe, headers=[*COLUMNS.values()], label="Each face", interactive=False)
            add("files", gr.Files, label="Its record (JSON), and all other pictures", interactive=False)
        add("preview", gr.Image, label="Best faces so far", **bare)
        add("curve", gr.LinePlot, x="step", y="loss", label="Loss by step", height=200, **bare)

    def _events(self) -> None:
        parts, private = self.parts, {"api_visibility": "private", "show_progress": "hidden"}
        picture, search = ({name: parts[name] for name in names} for names in (PICTURE, (*PICTURE, *SEARCH, "ending")))
        shown = [part for name, part in parts.items() if name not in search]
        quick = {"inputs": None, "outputs": shown, "queue": False, **private}
        look = {"fn": self.look, "inputs_kwargs": picture, "outputs": shown, "concurrency_id": "look", **private}
        parts["picture"].change(self.clear, **quick).then(**look)
        gr.on([parts["kind"].change, parts["prior"].change], **look)
        long = {"concurrency_id": "search", "show_progress_on": parts["status"], "api_visibility": "private"}
        ticked = {**search, "faces": parts["faces"]}
        parts["run"].click(self.search, inputs_kwargs=ticked, outputs=shown, **long).then(self.ready, **quick)
        parts["stop"].click(self.stop, **quick | {"outputs": None})
        self.blocks.unload(self.stop)

        # The same for programs, whose arguments are checked as the page's are.
        numbers = gr.Textbox("", label="faces", info="such as 1,3-5; empty for all", visible=False)
        data, files, unseen = gr.JSON(visible=False), gr.Files(visible=False), gr.Button(visible=False)
        quiet = {"inputs_kwargs": picture, "api_name": "faces", "concurrency_id": "look"}
        unseen.click(self.api_faces, outputs=data, **quiet)
        quiet = {"inputs_kwargs": {**search, "faces": numbers}, "api_name": "upscale", "concurrency_id": "search"}
        unseen.click(self.api_upscale, outputs=[files, data], **quiet)

    def _changes(self, **changes: Any) -> Changes:
        """Return changes of parts by name: a dictionary is of its properties, anything else its value."""
        return {self.parts[k]: gr.update(**v) if isinstance(v, dict) else v for k, v in changes.items()}

    def clear(self) -> Changes:
        """Take away what belongs to another picture."""
        no_faces = {"choices": [], "value": [], "visible": False}
        return self._changes(
            status=line("Looking for faces"), faces=no_faces, boxes=GONE, run=OFF, results=GONE, curve=GONE
        )

    def look(self, **picture: Any) -> Changes:
        """Show the faces of a picture with their numbers."""
        if picture["picture"] is None:
            return self._changes(status=line("Choose a picture"))
        with worded():
            try:
                _, found = self.desk.look(**picture)
            except LatentfaceError as error:
                return self._changes(status=line(f"This cannot be done: {error}"), run=OFF)
        choices, boxes = to_choose(found), numbered(found, WIDE)
        faces = {"choices": choices, "value": [number for _, number in choices], "visible": bool(choices)}
        marked = {"value": boxes, "visible": boxes is not None}
        return self._changes(status=line(found.summary), faces=faces, boxes=marked, run=ON)

    def search(self, request: gr.Request, **asked: Any) -> Iterator[Changes]:
        """Search for the faces that are ticked, show how it goes, and then what was made."""
        yield self._changes(status=line("Looking for faces"), run=OFF, results=GONE)
        for state, paths in self._searched(request, **asked):
            if isinstance(state, Progress):
                losses = pd.DataFrame({"step": [*state.losses], "loss": [*state.losses.values()]})
                preview, curve = {"value": state.preview, "visible": True}, {"value": losses, "visible": True}
                status = line(f"Exploring: {state.words}", state.share)
                yield self._changes(status=status, stop={"visible": True}, preview=preview, curve=curve)
            else:
                yield self._changes(
                    status=line(state.summary),
                    results={"visible": True},
                    compare=slider(*before_and_after(state, WIDE)),
                    save={"value": paths[0], "label": f"Download the picture ({paths[0].suffix[1:].upper()})"},
                    made=faces_made(state),
                    table=face_rows(state.record),
                    files=[str(path) for path in paths[1:]],
                )

    def ready(self) -> Changes:
        """Show the buttons as they are when nothing runs."""
        return self._changes(run=ON, stop=GONE, preview=GONE)

    def stop(self, request: gr.Request) -> None:
        """End the visitor's search at its best so far."""
        self.desk.stop(str(request.session_hash))

    def api_faces(self, **picture: Any) -> list[dict[str, Any]]:
        """Return the faces of a picture: their numbers, boxes and scores, and why some would be left as they are."""
        with worded():
            return self.desk.look(**picture)[1].records

    def api_upscale(
        self, request: gr.Request, faces: str = "", **asked: Any
    ) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """Enlarge a picture; return its files, the picture first, and its record."""
        with worded():
            numbers = face_numbers(faces) if faces else None
        for state, paths in self._searched(request, **asked, faces=numbers):
            if not isinstance(state, Progress):
                yield [str(path) for path in paths], dict(state.record)

    def _searched(self, request: gr.Request, **asked: Any) -> Iterator[tuple[Progress | Result, list[Path]]]:
        """Yield how far a search is, and last its result with its files, which are there until the next is asked for."""
        picture, chosen = ({name: asked[name] for name in names} for names in (PICTURE, SEARCH))
        usual = {name: chosen[name] or None for name in ("factor", "steps")}
        with worded(), tempfile.TemporaryDirectory(dir=self.desk.folder) as folder:
            found = self.desk.look(**picture, settings=UpscaleSettings(**chosen | usual), faces=asked["faces"])
            for state in self.desk.search(str(request.session_hash), *found):
                if isinstance(state, Progress):
                    yield state, []
                else:
                    yield state, write_all(Path(folder), Path(asked["picture"]), state, asked["ending"])


@contextmanager
def worded() -> Iterator[None]:
    """Tell visitors in words what cannot be done; what is the program's fault goes to its log."""
    try:
        yield
    except gr.Error:
        raise
    except (LatentfaceError, MemoryError) as error:
        words = str(error) if isinstance(error, LatentfaceError) else "there is not enough memory for this picture"
        raise gr.Error(escape(words), duration=None, print_exception=False, title="This cannot be done") from None
    except Exception:
        logging.getLogger("latentface").exception("the page failed")
        raise gr.Error("something failed on this server; its log says what", print_exception=False) from None
