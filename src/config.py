# Copyright 2026 TinySAM on MindSpore contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# ============================================================================
"""Configuration: frozen dataclasses over `default_config.yaml`.

default_config.yaml < `--config FILE` (several: the later ones win) < `--section.key=value`. Every key has one type and
one range, written beside its name in config_sections.py; unit, source and default stand in default_config.yaml. What
surprises: PyYAML reads `1e-4` as text, so text that spells a number is taken where a number is wanted, and only there.
"""
import dataclasses
import difflib
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, get_type_hints

import yaml

from src.config_sections import (
    DataConfig,
    DistillConfig,
    EmbeddingsConfig,
    EvalConfig,
    EverythingConfig,
    ExportConfig,
    ModelConfig,
    OptimConfig,
    QuantizeConfig,
    RuntimeConfig,
    TrainConfig,
)

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "default_config.yaml"


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the source, the key, its value and the way out."""


@dataclass(frozen=True)
class Config:
    """The whole configuration. Only root scripts see it; packages get their section or plain values."""
    runtime: RuntimeConfig
    model: ModelConfig
    data: DataConfig
    distill: DistillConfig
    optim: OptimConfig
    train: TrainConfig
    embeddings: EmbeddingsConfig
    eval: EvalConfig
    everything: EverythingConfig
    export: ExportConfig
    quantize: QuantizeConfig

    def to_yaml(self) -> str:
        """The resolved values as YAML text that `load_config` reads back to an equal Config."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)


_SECTIONS: Dict[str, type] = get_type_hints(Config)


def _known_keys() -> List[str]:
    return [f"{section}.{f.name}" for section, cls in _SECTIONS.items() for f in dataclasses.fields(cls)]


def _unknown(source: str, key: str) -> ConfigError:
    nearest = difflib.get_close_matches(key, _known_keys(), n=1, cutoff=0.5)
    if not nearest:  # the right key may stand in another section
        last = key.rsplit(".", 1)[-1]
        nearest = [known for known in _known_keys() if known.rsplit(".", 1)[-1] == last][:1]
    hint = f"; did you mean '{nearest[0]}'?" if nearest else "; default_config.yaml lists every key"
    return ConfigError(f"{source}: unknown key '{key}'{hint}")


def _number(value: Any, kind: type) -> Any:
    """`value` as int or float, or None when it does not spell one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    if kind is int and value != int(value):
        return None
    return kind(value)


def _scalar(where: str, value: Any, kind: type, rule: Mapping[str, Any]) -> Any:
    """`value` checked against its type and range; `where` opens the message."""
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{where} is {value!r}; it must be true or false")
    if kind is str:
        if value is None or isinstance(value, (list, dict)):
            raise ConfigError(f"{where} is {value!r}; it must be text")
        text = str(value)
        if rule.get("choices") and text not in rule["choices"]:
            raise ConfigError(f"{where} is {text!r}; it must be one of {', '.join(rule['choices'])}")
        return text
    number = _number(value, kind)
    if number is None:
        raise ConfigError(f"{where} is {value!r}; it must be {'an integer' if kind is int else 'a number'}")
    if number < rule.get("low", -math.inf):
        raise ConfigError(f"{where} is {number}; it must be at least {rule['low']}")
    if number > rule.get("high", math.inf):
        raise ConfigError(f"{where} is {number}; it must be at most {rule['high']}")
    if rule.get("multiple_of") and number % rule["multiple_of"]:
        raise ConfigError(f"{where} is {number}; it must be a multiple of {rule['multiple_of']}")
    return number


def _checked(source: str, key: str, value: Any) -> Any:
    section, name = key.split(".", 1)
    kind = get_type_hints(_SECTIONS[section])[name]
    rule = _SECTIONS[section].__dataclass_fields__[name].metadata
    where = f"{source}: '{key}'"
    if getattr(kind, "__origin__", None) is not list:
        return _scalar(where, value, kind, rule)
    if isinstance(value, str):  # --data.paths=a.json for a list of one
        value = [value] if value else []
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} is {value!r}; it must be a list")
    return tuple(_scalar(f"{where}[{i}]", item, kind.__args__[0], rule) for i, item in enumerate(value))


def _read_yaml(path: Path) -> Dict[str, Any]:
    """Flat {'section.key': value} of a YAML file; unknown keys and wrong shapes are refused."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give --config an existing YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: is not YAML ({reason})") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a {type(tree).__name__}; it must hold sections such as 'data:'")
    flat = {}
    for section, values in tree.items():
        if section not in _SECTIONS:
            raise _unknown(str(path), str(section))
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: section '{section}' is {values!r}; it must hold keys")
        for name, value in values.items():
            key = f"{section}.{name}"
            if key not in _known_keys():
                raise _unknown(str(path), key)
            flat[key] = _checked(str(path), key, value)
    return flat


def _parse_text(key: str, text: str) -> Any:
    """A command-line value: text stays text for text keys, everything else is read as YAML."""
    section, name = key.split(".", 1)
    if get_type_hints(_SECTIONS[section])[name] is str:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--{key}={text}: the value cannot be read; lists are written [a, b]") from error


def _parse_arguments(argv: Sequence[str], aliases: Mapping[str, str]) -> Tuple[List[str], Dict[str, Any]]:
    """(config files in order, {'section.key': value}) of `--config F`, `--section.key=value` and the aliases."""
    config_files, overrides, rest = [], {}, list(argv)
    while rest:
        argument = rest.pop(0)
        name, has_value, text = argument.partition("=")
        if not name.startswith("--"):
            raise ConfigError(f"unexpected argument {argument!r}; settings are written --section.key=value")
        key = aliases.get(name, name[2:])
        if name != "--config" and key not in _known_keys():
            raise _unknown("command line", key)
        if not has_value:
            if not rest:
                raise ConfigError(f"{name} needs a value: {name}=VALUE")
            text = rest.pop(0)
        if name == "--config":
            config_files.append(text)
        else:
            overrides[key] = _checked("command line", key, _parse_text(key, text))
    return config_files, overrides


def build_config(*layers: Mapping[str, Any]) -> Config:
    """Config from flat layers {'section.key': value}, the later ones winning, over default_config.yaml."""
    merged = _read_yaml(DEFAULT_CONFIG)
    missing = [key for key in _known_keys() if key not in merged]
    if missing:
        raise ConfigError(f"{DEFAULT_CONFIG.name}: {len(missing)} keys missing, first: {missing[0]}")
    for layer in layers:
        for key, value in layer.items():
            if key not in merged:
                raise _unknown("settings", key)
            merged[key] = _checked("settings", key, value)
    jitter = merged["data.scale_jitter"]
    if len(jitter) != 2 or jitter[0] > jitter[1]:
        raise ConfigError(f"'data.scale_jitter' is {list(jitter)}; it must be [smallest, largest]")
    if merged["data.image_roots"] and len(merged["data.image_roots"]) != len(merged["data.paths"]):
        raise ConfigError(f"'data.image_roots' names {len(merged['data.image_roots'])} folders for "
                          f"{len(merged['data.paths'])} 'data.paths'; give one for each, or none")
    _check_embeddings(merged)
    given = [f"'eval.{name}'" for name in ("checkpoint", "mindir", "onnx", "results") if merged[f"eval.{name}"]]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are set; an evaluation has one of them")
    if merged["eval.results"] and merged["eval.protocol"] != "box":
        raise ConfigError(f"eval.results goes with protocol box, not {merged['eval.protocol']}")
    if merged["eval.scales"] and given not in ([], ["'eval.checkpoint'"]):
        raise ConfigError("'eval.scales' quantizes a checkpoint; leave exports and results away")
    if merged["eval.engine"] == "openvino" and (merged["eval.mindir"] or merged["eval.results"]):
        what = "MindIR" if merged["eval.mindir"] else "results"
        raise ConfigError(f"'eval.engine' is openvino, which runs no {what}; give eval.onnx or a checkpoint, or use "
                          "the engine mindspore")
    return Config(**{section: cls(**{f.name: merged[f"{section}.{f.name}"] for f in dataclasses.fields(cls)})
                     for section, cls in _SECTIONS.items()})


def _check_embeddings(merged: Mapping[str, Any]) -> None:
    """Keys of stored teacher embeddings that contradict others."""
    if merged["data.embedding_cache"]:
        if merged["data.scale_jitter"] != (1.0, 1.0):
            raise ConfigError(f"'data.scale_jitter' is {list(merged['data.scale_jitter'])} but 'data.embedding_cache' "
                              "is set: stored embeddings show every picture at its full size; set it to [1.0, 1.0]")
        if merged["model.teacher"] == "none":
            raise ConfigError("'data.embedding_cache' is set but 'model.teacher' is none; name the teacher that made "
                              "the cache, or leave the cache away")
    if merged["embeddings.part"] >= merged["embeddings.parts"]:
        raise ConfigError(f"'embeddings.part' is {merged['embeddings.part']}; it must be below 'embeddings.parts' "
                          f"({merged['embeddings.parts']})")


def load_config(argv: Optional[Sequence[str]] = None, usage: str = "",
                aliases: Optional[Mapping[str, str]] = None) -> Config:
    """Read the configuration of a root script.

    Args:
        argv: arguments after the program's name; None: `sys.argv[1:]`.
        usage: text of `--help`, with an example; the keys and their defaults follow it.
        aliases: short names of the script, such as {"--resume": "train.resume"}.

    Returns:
        Config: default_config.yaml < `--config FILE`, of several the later ones < `--section.key=value`.

    Raises:
        ConfigError: unknown key (with the nearest known one), wrong type, impossible value, unreadable file.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--help" in argv or "-h" in argv:
        short = "".join(f"  {name} VALUE = --{key}=VALUE\n" for name, key in (aliases or {}).items())
        print(f"{usage.strip()}\n\nOptions: --config FILE (several: the later win), any --section.key=value:\n{short}\n"
              f"{DEFAULT_CONFIG.read_text(encoding='utf-8')}")
        raise SystemExit(0)
    config_files, overrides = _parse_arguments(argv, aliases or {})
    return build_config(*(_read_yaml(Path(name)) for name in config_files), overrides)
