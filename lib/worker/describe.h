#pragma once

#include <string>

#include "lib/device/device.h"
#include "lib/worker/edge.h"

namespace tandem::v1 {
class DeviceDescription;
class EdgeDescription;
}  // namespace tandem::v1

namespace tandem {

// What a worker says of itself. Any thread.

v1::EdgeDescription DescribeEdge(const Edge& edge);
v1::DeviceDescription DescribeDevice(const Device& device);
// Boot id and host name: equal for two processes that can share memory.
std::string HostIdentity();

}  // namespace tandem
