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
// What tells the gateway which workers can hand descriptors to each other: boot id, mount namespace
// and the folder of the descriptor socket (WorkerDescription.host).
std::string HostIdentity(const std::string& fd_socket);

}  // namespace tandem
