"""The page: what stands where, and what happens at which event."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from latentface.restore.settings import face_numbers
from latentface.restore.upscaler import Found, Upscaler
from latentface.restore.views import COLUMNS, before_and_after, face_rows, faces_made, numbered, previews, to_choose
from latentface.restore.write import write_all
from latentface.web import limits
from latentface.web.desk import Asked, Desk
from latentface.web.shown import LIVE, line, notice, slider

WIDE = 1400  # px of a picture on the page at most
KINDS = [("tell by itself", "auto"), ("photograph", "photo"), ("aligned face", "aligned")]
FACTORS = [("2; a single face as large as can be", 0), *((f"{n}", n) for n in (1, 2, 3, 4, 6, 8, 16))]
ASKED = ("picture", "kind", "prior", "method", "factor", "steps", "seed", "samples", "strength", "ending")
ABOUT = """# latentface
Enlarge the faces of a small or old photograph, or a single small face. Choose a picture, tick its faces, press *Enlarge*."""
Changes = dict[Any, Any]  # of the page's parts


class Page:
    """The page of one server.

    Args:
        queue: visitors that may wait, at most. examples: pictures with their names; cited: where they come from.
    """

    def __init__(self, desk: Desk, queue: int, examples: Mapping[Path, str], cited: str = "") -> None:
        self.desk = desk
        with gr.Blocks(
            title="latentface", analytics_enabled=False, delete_cache=(limits.CLEARED, limits.KEPT)
        ) as self.blocks:
            gr.Markdown(ABOUT)
            gr.HTML(notice(NOTICE))
            with gr.Row():
                with gr.Column(min_width=320):
                    self._inputs(examples, cited)
                with gr.Column(min_width=320):
                    self._outputs()
            gr.Markdown(
                f"Files of up to {limits.FILE_MB} MB and {limits.PIXELS // 1_000_000} megapixels. One search runs at a time and "
                f"up to {queue} visitors wait; after {desk.seconds / 60:.0f} minutes a search ends at its best so far. "
                "Your files are deleted within the hour, and no other visitor sees them."
            )
            self._events()
        self.blocks.queue(max_size=queue, default_concurrency_limit=1)

    def _inputs(self, examples: Mapping[Path, str], cited: str) -> None:
        sources = ["upload", "clipboard", "webcam"]
        self.picture = gr.Image(
            label="Picture", type="filepath", image_mode=None, sources=sources, height=320, elem_id="picture"
        )
        self.picture.preprocess = lambda given: given and given.path  # `restore` decodes the file, or says why not
        gr.Examples([[str(path)] for path in examples], [self.picture], example_labels=[*examples.values()])
        gr.Markdown(cited, visible=bool(cited))
        priors = [(f"{prior.name} (faces of {prior.resolution} px)", name) for name, prior in self.desk.priors.items()]
        lines = [(f"{name}: {words}", name) for name, words in method_lines().items()]
        self.prior = gr.Dropdown(
            priors, value=priors[0][1], label="Prior", info="The larger, the finer and the slower.", elem_id="prior"
        )
        self.factor = gr.Dropdown(FACTORS, value=0, label="Factor", elem_id="factor")
        self.samples = gr.Slider(
            1,
            limits.SAMPLES,
            1,
            step=1,
            label="Candidates of each face",
            info="They differ in what is invented.",
            elem_id="samples",
        )
        with gr.Accordion("More", open=False, elem_id="more"):
            self.kind = gr.Radio(KINDS, value="auto", label="The picture is a", elem_id="kind")
            self.method = gr.Dropdown(lines, value=lines[0][1], label="Method", elem_id="method")
            self.steps = gr.Slider(
                0, limits.STEPS, 0, step=1, label="Steps", info="0: as many as the method takes.", elem_id="steps"
            )
            self.strength = gr.Slider(
                0,
                1,
                1,
                step=0.05,
                label="Strength",
                info="0: the plain enlargement, 1: the face found.",
                elem_id="strength",
            )
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31, elem_id="seed")
            self.ending = gr.Radio([*FORMATS], value=FORMATS[0], label="Format of the result", elem_id="ending")

    def _outputs(self) -> None:
        self.boxes = gr.Image(
            show_label=False,
            alt_text="the faces with their numbers",
            visible=False,
            buttons=["fullscreen"],
            elem_id="boxes",
        )
        self.faces = gr.CheckboxGroup(label="Faces to enlarge", visible=False, elem_id="faces")
        self.status = gr.HTML(line("Choose a picture"), elem_id="status", js_on_load=LIVE)
        with gr.Row():
            self.run = gr.Button("Enlarge", variant="primary", interactive=False, elem_id="run")
            self.halt = gr.Button("Stop, keep the best", variant="stop", visible=False, elem_id="stop")
        with gr.Column(visible=False, elem_id="results") as self.results:
            self.compare = gr.HTML(elem_id="compare")
            self.save = gr.DownloadButton("Download the picture", variant="primary", elem_id="save")
            gr.HTML(notice(NOTICE))
            self.made = gr.Gallery(label="Every face that was made", columns=3, buttons=["fullscreen"], elem_id="made")
            self.table = gr.Dataframe(
                headers=[*COLUMNS.values()], label="Each face", interactive=False, elem_id="table"
            )
            self.files = gr.Files(label="Its record (JSON), and all other pictures", elem_id="files")
        self.preview = gr.Image(label="Best faces so far", visible=False, buttons=[], elem_id="preview")
        self.curve = gr.LinePlot(
            x="step", y="loss", label="Loss by step", height=200, visible=False, buttons=[], elem_id="curve"
        )

    def _events(self) -> None:
        asked = [getattr(self, name) for name in ASKED]
        own = {"api_visibility": "private"}
        quick = {"queue": False, "show_progress": "hidden", **own}
        look = {"fn": self.look, "inputs": asked[:3], "concurrency_id": "look", "show_progress": "hidden", **own}
        seen = [self.status, self.faces, self.boxes, self.run]
        self.picture.change(self.clear, None, [*seen, self.results, self.curve], **quick).then(**look, outputs=seen)
        gr.on([self.kind.change, self.prior.change], **look, outputs=seen)
        made = [self.compare, self.save, self.made, self.table, self.files, self.preview, self.curve]
        self.run.click(
            self.search,
            [self.faces, *asked],
            [self.status, self.run, self.halt, self.results, *made],
            concurrency_id="search",
            show_progress_on=self.status,
            **own,
        ).then(self.ready, None, [self.run, self.halt, self.preview], **quick)
        self.halt.click(self.stop, None, None, **quick)
        self.blocks.unload(self.stop)

        # The same for programs, whose arguments are checked as the page's are.
        numbers = gr.Textbox(label="faces", info="such as 1,3-5; empty for all", visible=False)
        data, files, unseen = gr.JSON(visible=False), gr.Files(visible=False), gr.Button(visible=False)
        unseen.click(self.api_faces, asked[:3], data, api_name="faces", concurrency_id="look")
        unseen.click(self.api_upscale, [*asked, numbers], [files, data], api_name="upscale", concurrency_id="search")

    def clear(self) -> Changes:
        """Take away what belongs to another picture."""
        return {
            self.status: line("Looking for faces"),
            self.faces: gr.update(choices=[], value=[], visible=False),
            self.boxes: gr.update(value=None, visible=False),
            self.run: gr.update(interactive=False),
            self.results: gr.update(visible=False),
            self.curve: gr.update(visible=False),
        }

    def look(self, *values: Any) -> Changes:
        """Show the faces of a picture with their numbers."""
        if values[0] is None:
            return {self.status: line("Choose a picture")}
        try:
            _, found = self._looked(values)
        except gr.Error as error:
            return {self.status: line(f"This cannot be done: {error.message}"), self.run: gr.update(interactive=False)}
        choices, boxes = to_choose(found), numbered(found, WIDE)
        return {
            self.status: line(found.summary),
            self.faces: gr.update(choices=choices, value=[n for _, n in choices], visible=bool(choices)),
            self.boxes: gr.update(value=boxes, visible=boxes is not None),
            self.run: gr.update(interactive=True),
        }

    def search(self, request: gr.Request, faces: Sequence[int], *values: Any) -> Iterator[Changes]:
        """Search for the faces that are ticked, show how it goes, and then what was made."""
        gone = gr.update(visible=False)
        yield {
            self.status: line("Looking for faces"),
            self.run: gr.update(interactive=False),
            self.halt: gr.update(visible=True),
            self.results: gone,
        }
        upscaler, found = self._looked(values, faces)
        with worded(), tempfile.TemporaryDirectory() as folder:
            for state in self.desk.search(str(request.session_hash), upscaler, found):
                if isinstance(state, Progress):
                    losses = pd.DataFrame({"step": [*state.losses], "loss": [*state.losses.values()]})
                    faces_so_far = previews(found, state.faces)
                    yield {
                        self.status: line(f"Exploring: {state.words}", state.share),
                        self.preview: gr.update(value=faces_so_far, visible=faces_so_far is not None),
                        self.curve: gr.update(value=losses, visible=bool(state.losses)),
                    }
                    continue
                path, *others = write_all(Path(folder), Path(values[0]), state, values[-1])
                yield {
                    self.status: line(state.summary),
                    self.results: gr.update(visible=True),
                    self.compare: slider(*before_and_after(state, WIDE)),
                    self.save: gr.update(value=path, label=f"Download the picture ({path.suffix[1:].upper()})"),
                    self.made: faces_made(state),
                    self.table: face_rows(state.record),
                    self.files: [str(other) for other in others],
                    self.preview: gone,
                }

    def ready(self) -> Changes:
        """Show the buttons as they are when nothing runs."""
        gone = gr.update(visible=False)
        return {self.run: gr.update(interactive=True), self.halt: gone, self.preview: gone}

    def stop(self, request: gr.Request) -> None:
        """End the visitor's search at its best so far."""
        self.desk.stop(str(request.session_hash))

    def api_faces(self, *values: Any) -> list[dict[str, Any]]:
        """Return the faces of a picture: their numbers, boxes and scores, and why some would be left as they are."""
        return self._looked(values)[1].records

    def api_upscale(self, request: gr.Request, *values: Any) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """Enlarge a picture; return its files, the picture first, and its record."""
        with worded(), tempfile.TemporaryDirectory() as folder:
            faces = face_numbers(values[-1]) if values[-1] else None
            upscaler, found = self._looked(values[:-1], faces)
            *_, result = self.desk.search(str(request.session_hash), upscaler, found)
            assert not isinstance(result, Progress)
            paths = write_all(Path(folder), Path(values[0]), result, values[-2])
            yield [str(path) for path in paths], dict(result.record)

    def _looked(self, values: Sequence[Any], faces: Sequence[int] | None = None) -> tuple[Upscaler, Found]:
        chosen = dict(zip(ASKED, values, strict=False))
        usual = {name: None for name in ("factor", "steps") if not chosen.get(name)}
        with worded():
            return self.desk.look(Asked(**chosen | usual, faces=faces))


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
