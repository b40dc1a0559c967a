#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem {

// What status shows of a device beyond its name.

// "firmware", "1.5.5.391".
struct DeviceFact {
  std::string name;
  std::string value;
};

// A part of what its stages do, and what of the machine does it: "attention" on "host".
struct DevicePart {
  std::string name;
  std::string where;
  // Since the start.
  double seconds = 0;
};

struct DeviceReport {
  std::vector<DeviceFact> facts;
  std::vector<DevicePart> parts;
};

}  // namespace tandem
