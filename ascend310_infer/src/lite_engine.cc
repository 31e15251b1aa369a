// Copyright 2026 TinySAM on MindSpore contributors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
// ============================================================================
// MindSpore Lite behind the program's Engine: the only file that knows of MindSpore.
//
// The same API serves the library for Ascend and the one for CPUs. What surprises: the library's own log is silenced
// (GLOG_v brings it back), inputs and outputs are taken by their place, and float16 tensors are converted here, so that
// the rest of the program knows float32 alone.
#include <fcntl.h>
#include <glob.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine.h"
#include "half.h"
#include "image_files.h"
#include "include/api/context.h"
#include "include/api/model.h"

namespace tinysam {
namespace {

namespace lite = mindspore;

// Keeps the library's warnings off stderr while it works: it decides what to log when it is loaded, before main. With
// GLOG_v in the environment nothing is hidden.
class QuietLog {
 public:
  QuietLog() {
    if (std::getenv("GLOG_v")) return;
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0) return;
    stderr_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (stderr_ >= 0) dup2(nowhere, STDERR_FILENO);
    close(nowhere);
  }
  ~QuietLog() {
    if (stderr_ < 0) return;
    dup2(stderr_, STDERR_FILENO);
    close(stderr_);
  }
  QuietLog(const QuietLog &) = delete;
  void operator=(const QuietLog &) = delete;

 private:
  int stderr_ = -1;
};

size_t Elements(const std::vector<int64_t> &shape) {
  size_t count = 1;
  for (const int64_t side : shape) count *= static_cast<size_t>(side);
  return count;
}

std::string ShapeText(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (const int64_t side : shape) text += Text(text.size() > 1 ? ", " : "", side);
  return text + "]";
}

bool AscendIsThere() {
  glob_t found = {};
  const bool there = glob("/dev/davinci[0-9]*", 0, nullptr, &found) == 0;
  globfree(&found);
  return there;
}

// cpu or ascend.
std::string ChosenDevice(const EngineSettings &settings) {
  if (settings.device == "cpu") return "cpu";
  const bool there = AscendIsThere();
  if (settings.device == "ascend" && !there) {
    throw InputError(
        "--device=ascend: this machine has no Ascend device (/dev/davinci0 is missing); run where one is, or with "
        "--device=cpu");
  }
  return there ? "ascend" : "cpu";
}

// One MindIR file, loaded and checked against the manifest.
class LiteModel {
 public:
  LiteModel(const GraphSpec &graph, const EngineSettings &settings, const std::string &device) : graph_(graph) {
    if (!settings.config_file.empty()) {
      ReadFile(settings.config_file, "Lite config");
      if (model_.LoadConfig(settings.config_file) != lite::kSuccess) {
        throw InputError(Text("--lite-config=", settings.config_file,
                              ": MindSpore Lite cannot use it; it takes [section] and ", "key=value lines"));
      }
    }
    const QuietLog quiet;
    const lite::Status status = model_.Build(graph.path, lite::kMindIR, MakeContext(settings, device));
    if (status != lite::kSuccess) {
      throw InputError(
          Text(graph.path, ": MindSpore Lite cannot load it on ", device, " (status ",
               static_cast<int32_t>(status.StatusCode()),
               "); export it with the MindSpore of this Lite, or convert it with convert.sh (GLOG_v=2 shows its log)"));
    }
    Check(model_.GetInputs(), graph.inputs, "inputs");
  }

  // Values of each output, from values of each input.
  std::vector<std::vector<float>> Run(const std::vector<const void *> &values) {
    const QuietLog quiet;
    std::vector<lite::MSTensor> inputs = model_.GetInputs();
    for (size_t i = 0; i < inputs.size(); ++i) Fill(values[i], &inputs[i]);
    std::vector<lite::MSTensor> outputs;
    if (model_.Predict(inputs, &outputs) != lite::kSuccess) {
      throw InputError(Text(graph_.path, ": MindSpore Lite fails to run it (GLOG_v=2 shows its log)"));
    }
    Check(outputs, graph_.outputs, "outputs");
    std::vector<std::vector<float>> results;
    for (lite::MSTensor &output : outputs) results.push_back(Values(&output));
    return results;
  }

 private:
  static std::shared_ptr<lite::Context> MakeContext(const EngineSettings &settings, const std::string &device) {
    auto context = std::make_shared<lite::Context>();
    if (settings.threads > 0) context->SetThreadNum(settings.threads);
    if (device == "ascend") {
      auto ascend = std::make_shared<lite::AscendDeviceInfo>();
      ascend->SetDeviceID(static_cast<uint32_t>(settings.device_id));
      if (!settings.precision.empty()) ascend->SetPrecisionMode(settings.precision);
      context->MutableDeviceInfo().push_back(ascend);
    } else {
      context->MutableDeviceInfo().push_back(std::make_shared<lite::CPUDeviceInfo>());
    }
    return context;
  }

  void Check(const std::vector<lite::MSTensor> &tensors, const std::vector<TensorSpec> &specs, const char *what) const {
    std::string found, wanted;
    for (const lite::MSTensor &tensor : tensors) found += " " + ShapeText(tensor.Shape());
    for (const TensorSpec &spec : specs) wanted += " " + ShapeText(spec.shape);
    if (found != wanted) {
      throw InputError(Text(graph_.path, ": ", what, " are", found, ", the manifest says", wanted,
                            "; it is another model, export or convert it again"));
    }
  }

  void Fill(const void *values, lite::MSTensor *tensor) const {
    const size_t count = Elements(tensor->Shape());
    void *data = tensor->MutableData();
    const lite::DataType type = tensor->DataType();
    if (data && type == lite::DataType::kNumberTypeFloat16) {
      const auto *from = static_cast<const float *>(values);
      std::transform(from, from + count, static_cast<uint16_t *>(data), HalfOfFloat);
    } else if (data && (type == lite::DataType::kNumberTypeFloat32 || type == lite::DataType::kNumberTypeInt32)) {
      std::memcpy(data, values, 4 * count);
    } else {
      throw InputError(Text(graph_.path, ": input ", tensor->Name(), " is of type ", static_cast<int>(type),
                            ", this program feeds float32, float16 and int32; export it again"));
    }
  }

  std::vector<float> Values(lite::MSTensor *tensor) const {
    const size_t count = Elements(tensor->Shape());
    const void *data = tensor->MutableData();
    std::vector<float> values(count);
    if (data && tensor->DataType() == lite::DataType::kNumberTypeFloat32) {
      std::memcpy(values.data(), data, 4 * count);
    } else if (data && tensor->DataType() == lite::DataType::kNumberTypeFloat16) {
      const auto *from = static_cast<const uint16_t *>(data);
      std::transform(from, from + count, values.begin(), FloatOfHalf);
    } else {
      throw InputError(Text(graph_.path, ": output ", tensor->Name(), " is of type ",
                            static_cast<int>(tensor->DataType()),
                            ", this program reads float32 and float16; export it again"));
    }
    return values;
  }

  const GraphSpec &graph_;
  lite::Model model_;
};

class LiteEngine : public Engine {
 public:
  LiteEngine(const Manifest &manifest, const EngineSettings &settings)
      : manifest_(manifest),
        settings_(settings),
        device_(ChosenDevice(settings)),
        encoder_(manifest.image_encoder, settings, device_),
        decoders_(manifest.mask_decoders.size()) {}

  std::vector<float> Encode(const std::vector<float> &images) override { return encoder_.Run({images.data()})[0]; }

  Decoded Decode(size_t index, const std::vector<float> &image_embeddings, const std::vector<float> &point_coords,
                 const std::vector<int32_t> &point_labels) override {
    Prepare(index);
    auto outputs = decoders_[index]->Run({image_embeddings.data(), point_coords.data(), point_labels.data()});
    return {std::move(outputs[0]), std::move(outputs[1])};
  }

  void Prepare(size_t index) override {
    if (!decoders_[index])
      decoders_[index] = std::make_unique<LiteModel>(manifest_.mask_decoders[index], settings_, device_);
  }

  std::string device() const override { return device_; }

 private:
  const Manifest &manifest_;
  EngineSettings settings_;
  std::string device_;
  LiteModel encoder_;
  std::vector<std::unique_ptr<LiteModel>> decoders_;
};

}  // namespace

std::unique_ptr<Engine> MakeEngine(const Manifest &manifest, const EngineSettings &settings) {
  return std::make_unique<LiteEngine>(manifest, settings);
}

}  // namespace tinysam
