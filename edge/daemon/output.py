"""What becomes of every reading: messages, pictures, events, and what has to survive a restart."""

import json
import logging
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from edge.config import Config
from edge.daemon.drawing import Drawing
from edge.daemon.health import StageTimes
from edge.daemon.skips import Skips
from edge.errors import EdgeError
from edge.publish import heatmap, messages
from edge.records import EventType, Message, Polygon, Reading
from edge.results import Board, View
from edge.scene import SceneModel, StillScene
from edge.scene.triggers import Triggers
from edge.state.place import REFERENCE, TRIGGERS, Place
from edge.state.stores import ReferenceStore, TriggerStore
from edge.topics import Topics

logger = logging.getLogger(__name__)

_SAVE_SECONDS = 30.0
_SNAPSHOT_SECONDS = 5.0  # between two snapshots at the least


class Output:
    """Takes every reading to the broker and to the page, in the depth thread.

    Whatever is made of pixels, heatmaps, snapshots and the page's views, is made of `_last` and of nothing else: while
    pixels are withheld there is none. `publish` is given every message, `connected` says whether it goes anywhere.
    `on` names the triggers that were on when the daemon last stopped.
    """

    def __init__(
        self,
        config: Config,
        topics: Topics,
        board: Board,
        drawing: Drawing,
        publish: Callable[[Message], None],
        connected: Callable[[], bool],
        on: list[str],
        times: StageTimes,
    ) -> None:
        self._topics = topics
        self._board = board
        self._drawing = drawing
        self._connected = connected
        self._times = times
        self._skips = Skips()
        self._publish = publish
        self._events = messages.Events(on)
        self._heatmap_due = 0.0
        self._snapshot_due = 0.0
        self._last: Reading | None = None
        self._forgotten_at = 0.0
        self._anew = False
        self._withheld: str | None = None
        self._readings = messages.ReadingPublisher(config.publish, topics)
        self.configure(config, None)

    def configure(self, config: Config, withheld: str | None) -> None:
        """Publish from now on as this configuration says; with the camera switched off nothing of it is kept.

        `withheld` says why nothing that is made of pixels may leave, None: it may.
        """
        self._config = config
        self._withheld = withheld
        self._drawing.configure(config.heatmap)
        self._readings.configure(config.publish)
        self._heatmap_due = 0.0
        self._board.allow_pictures(config.publish.picture and config.heatmap.enabled)
        if withheld or not config.camera.enabled:
            self.forget_pictures()
        elif not config.heatmap.enabled:
            self._board.forget_pictures()

    def forget_pictures(self) -> None:
        """Keep nothing of the pictures that were taken so far, those on their way included."""
        self._forgotten_at = time.monotonic()
        self._last = None
        self._drawing.forget()
        self._board.forget_pictures()

    def begin_anew(self) -> None:
        """Send the next reading whatever was sent before: somebody may have missed it. From any thread."""
        self._anew = True

    def show(self, reading: Reading) -> None:
        """Publish what is due of a reading, and can be made of it."""
        shown = self._withheld is None and reading.frame.captured_at >= self._forgotten_at
        self._last = reading if shown else None
        self._drawing.offer(self._last)
        now = time.monotonic()
        with self._skips.attempt("messages"):
            self._send(reading, now)
        with self._skips.attempt("what has happened"):
            self._tell_events(reading, now)
        if self._last is None:
            return
        with self._skips.attempt("heatmap's message"):
            self._show_heatmap(now)
        self.show_views()

    def _send(self, reading: Reading, now: float) -> None:
        if self._anew:
            self._anew = False
            self._readings.begin_anew()
        with self._times.timed("messages"):
            self._board.put(state=messages.state_json(reading))
            due = self._readings.messages(reading, now)
        with self._times.timed("publish"):
            for message in due:
                self._publish(message)

    def _tell_events(self, reading: Reading, now: float) -> None:
        """Publish what has happened, and a snapshot of somebody who has come near."""
        events = self._events.of(reading)
        for event_type, details in events:
            self.tell(event_type, reading.frame.wall_time, details)
        near = any(event_type == "near" for event_type, _ in events)
        if near and self._last is not None and now >= self._snapshot_due:
            with self._skips.attempt("snapshot"):
                self._publish_snapshot(reading)

    def show_views(self) -> None:
        """Make those pictures of the newest reading that somebody watches on the page."""
        if self._last is None or not self._config.heatmap.enabled:
            return
        for view in self._board.wanted():
            with self._skips.attempt(f"view {view}"):
                self._board.show(view, self._view(view, self._last))

    def tell(self, event_type: EventType, moment: datetime, details: dict[str, Any]) -> None:
        """Publish an event."""
        with self._skips.attempt("event"):
            self._publish(messages.event_message(self._topics, event_type, moment, details))

    def take_snapshot(self) -> dict[str, Any]:
        """Publish a snapshot of the newest reading now, and return which one that was.

        Raises:
            EdgeError: it is withheld, there is none yet, or one has just been published.
        """
        if self._withheld:
            raise EdgeError(self._withheld)
        if self._last is None:
            raise EdgeError("there is no reading yet")
        if time.monotonic() < self._snapshot_due:
            raise EdgeError(f"one has just been taken; {_SNAPSHOT_SECONDS:g} s lie between two at the least")
        self._publish_snapshot(self._last)
        return {"sequence": self._last.frame.sequence, "time": messages.utc(self._last.frame.wall_time)}

    def _publish_snapshot(self, reading: Reading) -> None:
        self._snapshot_due = time.monotonic() + _SNAPSHOT_SECONDS
        zones = {zone.name: zone.polygon for zone in self._config.zones}
        section, with_picture = heatmap.fitted(self._config.heatmap, reading.frame), self._config.publish.picture
        picture = heatmap.render_snapshot(reading.scene, section, zones, with_picture=with_picture)
        self._publish(messages.snapshot_message(self._topics, heatmap.encode_jpeg(picture, section.quality)))

    def _view(self, view: View, reading: Reading) -> bytes:
        """Return a picture for the page as JPEG, which writes the legend itself."""
        section = heatmap.fitted(self._config.heatmap, reading.frame)
        section = section.model_copy(update={"legend": False, "overlay": view == "blend"})
        if view == "picture":
            picture = heatmap.render_picture(reading.frame, section)
        else:
            picture = heatmap.render(reading.scene, section)
        return heatmap.encode_jpeg(picture, section.quality)

    def _show_heatmap(self, now: float) -> None:
        interval = self._config.heatmap.interval
        if now < self._heatmap_due or not self._connected():
            return
        self._heatmap_due = now + interval
        if drawn := self._drawing.draw():
            self._publish(messages.heatmap_message(self._topics, drawn[1], interval))


class Keeper:
    """Keeps the background and the triggers' states for the next run; its stores bound how often they write.

    A background belongs to the privacy masks that it was seen through: under others it shows what must not be kept.
    So it may while pixels are withheld: then none is kept.
    """

    def __init__(self, place: Place) -> None:
        self._references = ReferenceStore(place.file(REFERENCE))
        self._states = TriggerStore(place.file(TRIGGERS))
        self._masks = ""
        self._due = 0.0

    def load(self, masks: tuple[Polygon, ...]) -> tuple[dict[str, Any] | None, dict[str, bool]]:
        """Return the background that was saved under these privacy masks, or null, and the triggers' states."""
        self._masks = json.dumps(masks)
        saved = self._references.load(time.monotonic())
        if saved is not None and saved.pop("privacy_masks", None) != self._masks:
            logger.info("the saved background was learned under other privacy masks; it is deleted, and learned anew")
            self._references.forget()
            saved = None
        return saved, self._states.load()

    def keep(self, reading: Reading, scene: SceneModel, triggers: Triggers, *, withheld: bool) -> None:
        """Write what has changed, where it is due."""
        now = time.monotonic()
        self._states.save(triggers.states(), now)
        if withheld or now < self._due or reading.scene.state != "tracking":
            return
        self._due = now + _SAVE_SECONDS
        self._keep_background(scene, now)

    def _keep_background(self, scene: SceneModel, now: float, *, only_new: bool = False) -> None:
        saved = scene.saved() if isinstance(scene, StillScene) else None
        if saved is not None:
            self._references.save(saved | {"privacy_masks": self._masks}, now, only_new=only_new)

    def forget(self, masks: tuple[Polygon, ...]) -> None:
        """Delete the background: it shows what, under these privacy masks, is not to be seen any more."""
        self._masks = json.dumps(masks)
        self._references.forget()

    def stop(self, scene: SceneModel, triggers: Triggers, *, withheld: bool) -> None:
        """Write the last states, and a background that is another one than the file's, whenever that is."""
        self._states.save(triggers.states(), math.inf)
        if not withheld:
            self._keep_background(scene, math.inf, only_new=True)
