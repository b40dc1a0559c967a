#include "lib/worker/describe.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {

v1::EdgeDescription DescribeEdge(const Edge& edge) {
  v1::EdgeDescription description;
  description.set_id(edge.spec.id);
  description.set_from(edge.spec.from);
  description.set_to(edge.spec.to);
  description.set_kind(std::string(NameOf(edge.kind)));
  description.set_generation(edge.spec.generation);
  description.set_bytes(edge.spec.layout.total_bytes());
  description.set_device(edge.identity.device);
  description.set_inode(edge.identity.inode);
  description.set_sequence(edge.control->handovers());
  return description;
}

v1::DeviceDescription DescribeDevice(const Device& device) {
  const DeviceInfo& info = device.info();
  const DeviceCounters counters = device.counters();
  v1::DeviceDescription description;
  description.set_kind(info.kind);
  description.set_name(info.name);
  description.set_driver(info.driver);
  description.set_memory_bytes(info.memory_bytes);
  description.set_unified_memory(info.unified_memory);
  const MemoryBudget budget = device.memory_budget();
  description.set_budget_bytes(budget.bytes);
  description.set_own_memory(budget.own);
  description.set_allocations(counters.allocations);
  description.set_descriptor_writes(counters.descriptor_writes);
  description.set_command_recordings(counters.command_recordings);
  description.set_submissions(counters.submissions);
  const DeviceReport report = device.Report();
  for (const DeviceFact& fact : report.facts) {
    v1::DeviceFact& to = *description.add_facts();
    to.set_name(fact.name);
    to.set_value(fact.value);
  }
  for (const DevicePart& part : report.parts) {
    v1::DevicePart& to = *description.add_parts();
    to.set_name(part.name);
    to.set_where(part.where);
    to.set_seconds(part.seconds);
  }
  return description;
}

std::string HostIdentity(const std::string& fd_socket) {
  std::string boot_id = "unknown";
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot_id;
  const auto number = [](const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return std::string("unknown");
    return absl::StrCat(info.st_dev, ":", info.st_ino);
  };
  const std::size_t slash = fd_socket.rfind('/');
  const std::string folder =
      slash == std::string::npos ? "." : fd_socket.substr(0, std::max<std::size_t>(slash, 1));
  return absl::StrCat(boot_id, "/", number("/proc/self/ns/mnt"), "/", number(folder));
}

}  // namespace tandem
