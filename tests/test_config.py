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
"""Configuration: precedence, types, ranges, and the message of every refusal."""
import dataclasses

import pytest
import yaml

from src.config import DEFAULT_CONFIG, Config, ConfigError, build_config, load_config


def write(tmp_path, text):
    path = tmp_path / "variant.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_command_line_wins_over_file_and_file_over_default(tmp_path):
    path = write(tmp_path, "optim:\n  warmup_steps: 7\n  clip_norm: 3.5\n")
    config = load_config(["--config", path, "--optim.warmup_steps=9"])
    assert config.optim.warmup_steps == 9
    assert config.optim.clip_norm == 3.5
    assert config.train.epochs == 8  # the default: the paper's


def test_of_several_files_the_later_wins(tmp_path):
    first = write(tmp_path, "optim:\n  warmup_steps: 7\n  clip_norm: 3.5\n")
    second = tmp_path / "stage.yaml"
    second.write_text("optim:\n  warmup_steps: 8\n", encoding="utf-8")
    config = load_config(["--config", first, "--config", str(second)])
    assert (config.optim.warmup_steps, config.optim.clip_norm) == (8, 3.5)
    assert load_config(["--config", str(second), "--config", first]).optim.warmup_steps == 7


def test_exponent_without_point_is_a_number_although_yaml_reads_text(tmp_path):
    assert yaml.safe_load("1e-4") == "1e-4"
    config = load_config(["--config", write(tmp_path, "optim:\n  learning_rate: 1e-4\n")])
    assert config.optim.learning_rate == 1e-4


def test_text_keys_stay_text():
    config = load_config(["--model.teacher=none", "--eval.boxes", "2024", "--data.paths=[a.json, b.json]"])
    assert config.model.teacher == "none"
    assert config.eval.boxes == "2024"
    assert config.data.paths == ("a.json", "b.json")


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config([]).runtime.seed = 3


def test_resolved_yaml_reads_back_to_an_equal_config(tmp_path):
    config = load_config(["--data.scale_jitter=[0.5, 2]", "--optim.learning_rate=3e-5", "--data.paths=x.json"])
    assert load_config(["--config", write(tmp_path, config.to_yaml())]) == config


def test_every_default_key_is_documented_by_a_field_and_back():
    tree = yaml.safe_load(DEFAULT_CONFIG.read_text(encoding="utf-8"))
    assert {s: set(v) for s, v in tree.items()} == {
        f.name: {g.name for g in dataclasses.fields(f.type)} for f in dataclasses.fields(Config)}


def test_alias_stands_for_its_key():
    config = load_config(["--resume", "auto"], aliases={"--resume": "train.resume"})
    assert config.train.resume == "auto"


@pytest.mark.parametrize("argument, message", [
    ("--optim.warmup_step=3", "command line: unknown key 'optim.warmup_step'; did you mean 'optim.warmup_steps'?"),
    ("--train.warmup_steps=3", "command line: unknown key 'train.warmup_steps'; did you mean 'optim.warmup_steps'?"),
    ("--zzz=3", "command line: unknown key 'zzz'; default_config.yaml lists every key"),
    ("--runtime.device=gpu", "command line: 'runtime.device' is 'gpu'; it must be one of auto, cpu, ascend"),
    ("--model.image_size=1000", "command line: 'model.image_size' is 1000; it must be a multiple of 64"),
    ("--model.image_size=-64", "command line: 'model.image_size' is -64; it must be at least 0"),
    ("--data.box_share=1.5", "command line: 'data.box_share' is 1.5; it must be at most 1"),
    ("--data.workers=2.5", "command line: 'data.workers' is 2.5; it must be an integer"),
    ("--data.workers=true", "command line: 'data.workers' is True; it must be an integer"),
    ("--optim.learning_rate=fast", "command line: 'optim.learning_rate' is 'fast'; it must be a number"),
    ("--optim.learning_rate=.nan", "command line: 'optim.learning_rate' is nan; it must be a number"),
    ("--runtime.distributed=1", "command line: 'runtime.distributed' is 1; it must be true or false"),
    ("--data.scale_jitter=[1, wide]", "command line: 'data.scale_jitter'[1] is 'wide'; it must be a number"),
    ("--data.scale_jitter=[2, 1]", "'data.scale_jitter' is [2.0, 1.0]; it must be [smallest, largest]"),
    ("--data.scale_jitter={a: 1}", "command line: 'data.scale_jitter' is {'a': 1}; it must be a list"),
    ("--data.image_roots=images", "'data.image_roots' names 1 folders for 0 'data.paths'; give one for each, or none"),
    ("picture.jpg", "unexpected argument 'picture.jpg'; settings are written --section.key=value"),
    ("--optim.name", "--optim.name needs a value: --optim.name=VALUE"),
])
def test_refusals_on_the_command_line(argument, message):
    with pytest.raises(ConfigError) as error:
        load_config([argument])
    assert str(error.value) == message


@pytest.mark.parametrize("text, message", [
    ("optim:\n  warmup_step: 3\n", "unknown key 'optim.warmup_step'; did you mean 'optim.warmup_steps'?"),
    ("optimizer:\n  name: adam\n", "unknown key 'optimizer'"),
    ("- a\n", "holds a list; it must hold sections such as 'data:'"),
    ("data: 3\n", "section 'data' is 3; it must hold keys"),
    ("data:\n  format: null\n", "'data.format' is None; it must be text"),
    ("data: [\n", "is not YAML"),
])
def test_refusals_in_a_file_name_the_file(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(["--config", path])
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_missing_file_is_named():
    with pytest.raises(ConfigError, match="^absent.yaml: cannot be read .*give --config an existing YAML file$"):
        load_config(["--config=absent.yaml"])


def test_layers_given_by_a_program_are_checked_too():
    assert build_config({"train.epochs": 2}).train.epochs == 2
    with pytest.raises(ConfigError, match="settings: unknown key 'train.epoch'; did you mean 'train.epochs'?"):
        build_config({"train.epoch": 2})


def test_help_shows_the_example_and_every_key(capsys):
    with pytest.raises(SystemExit) as leave:
        load_config(["--help"], usage="example: python train.py --config configs/smoke_cpu.yaml")
    assert leave.value.code == 0
    out = capsys.readouterr().out
    assert "configs/smoke_cpu.yaml" in out and "warmup_steps: 500" in out
