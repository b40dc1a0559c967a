#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu-worker/stage/tuning.h"
#include "gpu-worker/vulkan/physical_device.h"
#include "lib/base/kept_file.h"

namespace tandem {

// The step by which a field is judged.
struct TunedStep {
  std::int32_t sequences = 1;
  std::int32_t tokens = 1;  // of each
};

// A field of Tuning that is measured on a device. Switches are 0 or 1.
struct TuningField {
  std::string_view name;  // "dot.lanes"
  // What is tried; and what a row of the table may hold beside that, where trying it would cost a
  // GPU too much.
  std::vector<std::uint32_t> values;
  std::vector<std::uint32_t> also;
  TunedStep step;
  std::uint32_t (*get)(const Tuning& tuning);
  void (*set)(Tuning& tuning, std::uint32_t value);
};
// In the order in which they are measured.
std::span<const TuningField> TuningFields();
// Whether a profile may hold the value.
bool Allows(const TuningField& field, std::uint64_t value);
// Null where there is none of that name.
const TuningField* FindTuningField(std::string_view name);

// A profile: JSON {"version": 1, "device": NAME, "driver": NAME, "fields": {NAME: VALUE, ...}} with
// every field.
std::string WriteTuningProfile(std::string_view device, std::string_view driver,
                               const Tuning& tuning);
// Sets the fields of `tuning`. DATA_LOSS says what is wrong with the text; then nothing is set.
absl::Status ReadTuningProfile(std::string_view text, Tuning* tuning);

// Where a device's profile is kept.
KeptFile TuningProfileFile(const std::string& folder, const vulkan::PhysicalDevice& device);

}  // namespace tandem
