"""The sections of the configuration: every key, its type, its default and what it may hold."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from edge.config.values import (
    Area,
    BaseTopic,
    CameraSource,
    Discovery,
    Fraction,
    Host,
    HostName,
    Id,
    Listen,
    NetworkSize,
    Processors,
    Seconds,
    Side,
    Text,
    Token,
    is_loopback,
    is_this_machine,
    is_token,
    shown_address,
    within,
)
from edge.errors import ConfigError


class Section(BaseModel):
    """A frozen part of the configuration; unknown keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, values: Any) -> Any:
        """A section whose keys are all commented out arrives as null."""
        return {} if values is None else values


class CameraSection(Section):
    """Where frames come from."""

    enabled: bool = True
    source: CameraSource = "picamera2"
    size: tuple[Side, Side] = (640, 480)
    fps: Annotated[float, within(0.05, 120)] = 5.0
    rotate: Literal[0, 90, 180, 270] = 0
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    timeout: Annotated[float, within(0.1, 120)] = 10.0
    loop: bool = True
    privacy_masks: tuple[Area, ...] = ()

    @model_validator(mode="after")
    def _waits_for_a_frame(self) -> "CameraSection":
        if self.timeout <= 1 / self.fps:
            raise ValueError(
                f"timeout, {self.timeout:g}, must be longer than the {1 / self.fps:g} s between two frames"
            )
        return self

    @property
    def safe_source(self) -> str:
        """The source, of a stream's address only what can be no secret."""
        return shown_address(self.source)


class ModelSection(Section):
    """The network and how it is run."""

    weights: Text = "auto"
    engine: Literal["auto", "torch", "torchscript", "onnxruntime", "onnxruntime-int8"] = "auto"
    threads: Annotated[int, within(1, 64)] | None = None
    cpus: Processors | None = None
    input_size: NetworkSize = 256


class SceneSection(Section):
    """How readings come from relative inverse depth."""

    mode: Literal["still", "moving"] = "still"
    learn_seconds: Annotated[float, within(1, 600)] = 10.0
    noise_factor: Annotated[float, within(1, 20)] = 4.0
    min_step: Annotated[float, within(0.001, 1)] = 0.08
    min_area: Annotated[float, within(0.0001, 0.5)] = 0.004
    min_quality: Fraction = 0.3
    adapt_seconds: Annotated[float, within(10, 86400)] = 300.0
    absorb_seconds: Seconds = 1800.0
    relearn_seconds: Annotated[float, within(5, 86400)] = 60.0
    ignore_masks: tuple[Area, ...] = ()
    horizontal_fov_deg: Annotated[float, within(10, 179)] | None = None


class ZoneSection(Section):
    """A named part of the picture."""

    name: Id
    polygon: Area


class PointSection(Section):
    """A static point whose distance was measured with a tape."""

    x: Fraction
    y: Fraction
    metres: Annotated[float, within(0.1, 200)]


class FloorSection(Section):
    """The floor as the yardstick: the camera's height above it and its tilt downwards from the horizontal."""

    height_metres: Annotated[float, within(0.1, 50)]
    tilt_deg: Annotated[float, within(-30, 89)]
    polygon: Area


class CalibrationSection(Section):
    """What turns nearness into metres."""

    points: tuple[PointSection, ...] = ()
    floor: FloorSection | None = None
    max_metres: Annotated[float, within(1, 200)] = 20.0

    @property
    def given(self) -> bool:
        """Whether there is anything to fit metres to."""
        return bool(self.points) or self.floor is not None


class TriggerSection(Section):
    """A level that switches when something comes near."""

    name: Id
    zone: Id | None = None
    measure: Literal["metres", "nearness"] = "metres"
    near: Annotated[float, within(0.01, 200)]
    clear: Annotated[float, within(0.01, 200)] | None = None
    on_delay: Seconds = 0.5
    off_delay: Seconds = 3.0
    min_frames: Annotated[int, within(1, 1000)] = 2
    min_quality: Fraction = 0.5

    @property
    def clear_level(self) -> float:
        """The level that clears: `clear`, or a tenth beyond `near`."""
        if self.clear is not None:
            return self.clear
        return self.near * (1.1 if self.measure == "metres" else 0.9)

    @field_validator("clear")
    @classmethod
    def _is_beyond_near(cls, clear: float | None, info: ValidationInfo) -> float | None:
        near, measure = info.data.get("near"), info.data.get("measure")
        if clear is None or near is None or measure is None:
            return clear
        if measure == "metres" and clear < near:
            raise ValueError(f"must be at least near, {near:g}: metres grow with the distance")
        if measure == "nearness" and clear > near:
            raise ValueError(f"must be at most near, {near:g}: nearness falls with the distance")
        return clear


class HeatmapSection(Section):
    """The depth picture."""

    enabled: bool = True
    interval: Seconds = 1.0
    width: Annotated[int, within(64, 1920)] = 512
    colormap: Literal["inferno", "magma", "viridis", "turbo", "grey"] = "inferno"
    quality: Annotated[int, within(10, 100)] = 80
    overlay: bool = False
    legend: bool = True
    scale: Literal["reference", "frame"] = "reference"


class GateSection(Section):
    """When the network is spared a frame that shows nothing new."""

    max_skip_seconds: Annotated[float, within(0, 60)] = 5.0
    threshold: Annotated[float, within(1, 100)] = 5.0


class PowerSection(Section):
    """How much of the machine may be used."""

    max_duty: Annotated[float, within(0.05, 1)] = 1.0
    max_temperature: Annotated[float, within(40, 110)] | None = 80.0
    max_rss: Annotated[float, within(100, 1_000_000)] | None = 1500.0


class PublishSection(Section):
    """When readings are sent."""

    min_interval: Seconds = 0.2
    heartbeat: Annotated[float, within(1, 3600)] = 10.0
    health_interval: Annotated[float, within(1, 3600)] = 60.0
    deadband: Fraction = 0.02
    picture: bool = False
    persist_settings: bool = False


class TlsSection(Section):
    """Encryption on the way to the broker."""

    ca: Text | None = None
    cert: Text | None = None
    key: Text | None = None
    insecure: bool = False

    @field_validator("key")
    @classmethod
    def _has_certificate(cls, key: str | None, info: ValidationInfo) -> str | None:
        if key is not None and info.data.get("cert", ...) is None:
            raise ValueError("needs cert too, the certificate that the key belongs to")
        return key


class MqttSection(Section):
    """The broker."""

    enabled: bool = True
    host: Host = "localhost"
    port: Annotated[int, within(1, 65535)] = 1883
    username: str | None = None
    password: str | None = None
    password_file: Text | None = None
    client_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    keepalive: Annotated[int, within(5, 3600)] = 30
    protocol: Literal["auto", "3.1.1", "5"] = "auto"
    base_topic: BaseTopic = "edge-depth"
    discovery: Discovery = "device"
    discovery_prefix: BaseTopic = "homeassistant"
    tls: TlsSection | None = None

    @field_validator("password", "password_file")
    @classmethod
    def _fits(cls, value: str | None, info: ValidationInfo) -> str | None:
        # A key that is wrong itself is missing from info.data, and reported already.
        if value is not None and info.data.get("username", ...) is None:
            raise ValueError("needs username too")
        if value is not None and info.field_name == "password_file" and info.data.get("password") is not None:
            raise ValueError("stands beside password; keep one of the two")
        return value

    @property
    def shows_password(self) -> bool:
        """Whether the password goes to another machine without encryption."""
        given = self.password is not None or self.password_file is not None
        return self.enabled and given and self.tls is None and not is_this_machine(self.host)

    def read_password(self) -> str | None:
        """Return the broker's password from where it is kept, or null.

        Raises:
            ConfigError: the file can't be read.
        """
        return self.password if self.password_file is None else _read_secret("mqtt.password_file", self.password_file)


def _read_secret(key: str, name: str) -> str:
    """Return what a file holds; a relative name is looked for in the systemd credentials directory first.

    Raises:
        ConfigError: the file can't be read.
    """
    path = Path(name)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / path).is_file():
        path = Path(credentials) / path
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: {path} is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{key}: can't read {path}: {error.strerror}") from error


class WebSection(Section):
    """The page."""

    token: Token | None = None
    token_file: Text | None = None
    listen: Listen | None = None
    names: tuple[HostName, ...] = ()
    upload_bytes: Annotated[int, within(10_000, 50_000_000)] = 2_000_000
    upload_pixels: Annotated[int, within(10_000, 64_000_000)] = 24_000_000

    @field_validator("token_file")
    @classmethod
    def _stands_alone(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("token") is not None:
            raise ValueError("stands beside token; keep one of the two")
        return value

    @field_validator("listen")
    @classmethod
    def _needs_token(cls, listen: str | None, info: ValidationInfo) -> str | None:
        # A key that is wrong itself is missing from info.data, and reported already.
        given = any(info.data.get(key, ...) is not None for key in ("token", "token_file"))
        if listen is not None and not is_loopback(listen) and not given:
            raise ValueError(
                "needs web.token too, since others can reach that address; or listen at 127.0.0.1 and use ssh -L"
            )
        return listen

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine itself can reach the page."""
        return self.listen is not None and is_loopback(self.listen)

    def read_token(self) -> str | None:
        """Return the token from where it is kept, or null.

        Raises:
            ConfigError: the file can't be read, or holds no token.
        """
        if self.token_file is None:
            return self.token
        try:
            return is_token(_read_secret("web.token_file", self.token_file))
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"web.token_file: what {self.token_file} holds {error}") from error


class LogSection(Section):
    """What is told on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


Named = TypeVar("Named", ZoneSection, TriggerSection)


def _names_differ(sections: tuple[Named, ...]) -> tuple[Named, ...]:
    names = [section.name for section in sections]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names must differ; used more than once: {', '.join(twice)}")
    return sections


class Config(Section):
    """The whole file."""

    id: Id | None = None
    name: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    camera: CameraSection = CameraSection()
    model: ModelSection = ModelSection()
    scene: SceneSection = SceneSection()
    zones: Annotated[tuple[ZoneSection, ...], AfterValidator(_names_differ)] = ()
    calibration: CalibrationSection = CalibrationSection()
    triggers: Annotated[tuple[TriggerSection, ...], AfterValidator(_names_differ)] = ()
    publish: PublishSection = PublishSection()
    heatmap: HeatmapSection = HeatmapSection()
    gate: GateSection = GateSection()
    power: PowerSection = PowerSection()
    mqtt: MqttSection = MqttSection()
    web: WebSection = WebSection()
    log: LogSection = LogSection()

    @field_validator("heatmap")
    @classmethod
    def _overlay_needs_picture(cls, heatmap: HeatmapSection, info: ValidationInfo) -> HeatmapSection:
        publish = info.data.get("publish")
        if heatmap.overlay and publish is not None and not publish.picture:
            raise ValueError("overlay needs publish.picture too, which lets the camera's picture leave the machine")
        return heatmap

    @field_validator("calibration")
    @classmethod
    def _floor_needs_view(cls, calibration: CalibrationSection, info: ValidationInfo) -> CalibrationSection:
        scene = info.data.get("scene")
        if calibration.floor is not None and scene is not None and scene.horizontal_fov_deg is None:
            raise ValueError("floor needs scene.horizontal_fov_deg too, the camera's horizontal field of view")
        return calibration

    @field_validator("triggers")
    @classmethod
    def _zones_exist(cls, triggers: tuple[TriggerSection, ...], info: ValidationInfo) -> tuple[TriggerSection, ...]:
        known = {zone.name for zone in info.data.get("zones", ())}
        missing = sorted({trigger.zone for trigger in triggers if trigger.zone is not None} - known)
        if missing and "zones" in info.data:
            raise ValueError(f"name zones that do not exist: {', '.join(missing)}; known: {', '.join(sorted(known))}")
        return triggers

    @field_validator("triggers")
    @classmethod
    def _need_a_still_camera(
        cls, triggers: tuple[TriggerSection, ...], info: ValidationInfo
    ) -> tuple[TriggerSection, ...]:
        scene = info.data.get("scene")
        if triggers and scene is not None and scene.mode == "moving":
            raise ValueError("need scene.mode still: a moving camera has no levels to compare")
        return triggers

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but will not do what its author may expect."""
        found = []
        in_metres = [trigger.name for trigger in self.triggers if trigger.measure == "metres"]
        if in_metres and not self.calibration.given:
            names = ", ".join(in_metres)
            found.append(f"triggers: frozen until the camera is calibrated, since they measure metres: {names}")
        if self.scene.mode == "moving" and not self.zones:
            found.append("zones: there are none, and a moving camera has readings of zones alone")
        if self.mqtt.shows_password:
            found.append(
                f"mqtt.tls: the password goes to {self.mqtt.host} unencrypted, for anyone on the way to read; with"
                " `tls: {}` it is encrypted, usually at port 8883"
            )
        return tuple(found)
