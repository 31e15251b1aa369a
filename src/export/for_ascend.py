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
"""What tools for Ascend take beside a graph: AMCT's record of scales, and converter_lite's configuration with pictures.

Formats are those of CANN 8's AMCT (amct_onnx, record files) and of MindSpore Lite 2.10 (quantization of models);
docs/quantization.md says which command takes which. Not run: neither tool nor device was at hand.
"""
import numpy as np

CALIBRATION = "calibration"


def amct_record(layers):
    """The record of convolutions, in protobuf's text form, for AMCT's convert_qat_model.

    AMCT counts codes of activations from -128, so an unsigned range from 0 has offset -128; it takes a scale per
    channel from convolutions alone, hence no other layer is here.

    Args:
        layers: LayerScales; those of another kind than "conv" are passed over.
    """
    lines = []
    for layer in layers:
        if layer.kind != "conv":
            continue
        (scale, low, high), = layer.inputs[0].ranges
        offset = 0 if low == -high - 1 else -low - 128
        lines += ["record {", f'  key: "{layer.name}"', "  value {", f"    scale_d: {np.float32(scale)!s}",
                  f"    offset_d: {offset}"]
        lines += [f"    scale_w: {value!s}" for value in layer.weight_scales]
        lines += ["    offset_w: 0"] * len(layer.weight_scales)
        lines += ["  }", "}"]
    return "\n".join(lines) + "\n"


def lite_config(images, kept):
    """converter_lite's configuration for the full quantization of a float image encoder by its own search.

    Args:
        images: number of pictures in the folder `CALIBRATION` beside it.
        kept: names of the encoder's products that scales.json leaves in float; the converter knows them by names of its
            own, so they stand in a comment and are quantized like all others.
    """
    lines = [f"# float in scales.json: {name}" for name in kept]
    for section, values in {
            "common_quant_param": {"quant_type": "FULL_QUANT", "bit_num": 8},
            "data_preprocess_param": {"calibrate_path": f"images:{CALIBRATION}", "calibrate_size": images,
                                      "input_type": "BIN"},
            "full_quant_param": {"activation_quant_method": "MAX_MIN", "bias_correction": "true", "per_channel": "true",
                                 "target_device": "ASCEND"}}.items():
        lines += [f"[{section}]", *(f"{key}={value}" for key, value in values.items()), ""]
    return "\n".join(lines)


def write_calibration(folder, pictures):
    """Write pictures [1, 3, S, S] float32, normalised, as raw float32 in NCHW order, one file each."""
    target = folder / CALIBRATION
    target.mkdir()
    for index, picture in enumerate(pictures):
        (target / f"{index:04d}.bin").write_bytes(np.ascontiguousarray(picture, "<f4").tobytes())
