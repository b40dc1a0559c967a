#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace tandem::npu {

// What the stand-in for the kernel driver is to break, and when. Written as "EVENT N FAULT", joined
// with commas: "exec 3 timeout, create_bo 5 nomem". Events count from 1 for each open device:
//   exec       timeout   the command never ends; after its time the driver gives it up
//              lost      the firmware drops the context: this command and all after it abort
//              error     the command fails
//              vanish    the device goes away: this and every later call gives ENODEV
//   create_bo  nomem     no memory for the buffer
//   create_hwctx  nomem  no context for the process
//   export  refused      a buffer cannot be exported
//   ioctl      vanish    the device goes away at the Nth call of any kind
class FaultPlan {
 public:
  // False when `text` makes no sense.
  bool Parse(const std::string& text);
  // Counts one event; the fault to inject now, or "".
  std::string Next(const std::string& event);

 private:
  struct Key {
    std::string event;
    std::uint64_t number;
    auto operator<=>(const Key&) const = default;
  };
  std::map<Key, std::string> faults_;
  std::map<std::string, std::uint64_t> counts_;
};

}  // namespace tandem::npu
