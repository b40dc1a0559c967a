#include "tests/fake_amdxdna/fault_plan.h"

#include <set>
#include <sstream>

namespace tandem::npu {

bool FaultPlan::Parse(const std::string& text) {
  static const std::set<std::string> kKnown = {
      "exec timeout",    "exec lost",          "exec error",     "exec vanish",
      "create_bo nomem", "create_hwctx nomem", "export refused", "ioctl vanish"};
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    std::istringstream words(part);
    Key key;
    std::string fault, rest;
    if (!(words >> key.event >> key.number >> fault) || words >> rest) return false;
    if (!kKnown.contains(key.event + " " + fault)) return false;
    faults_[key] = fault;
  }
  return true;
}

std::string FaultPlan::Next(const std::string& event) {
  const auto found = faults_.find({event, ++counts_[event]});
  return found == faults_.end() ? "" : found->second;
}

}  // namespace tandem::npu
