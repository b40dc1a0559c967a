#pragma once

#include <memory>
#include <string>

#include "tandem/v1/control.pb.h"
#include "tandem/v1/inference.pb.h"
#include "tandem/v1/loader.pb.h"

namespace tandem {

// Shows a person what `tandem up` does. On a terminal: a progress bar and one live status line;
// elsewhere: plain lines, each said once.
class Reporter {
 public:
  virtual ~Reporter() = default;
  virtual void Line(const std::string& text) = 0;
  virtual void Progress(const v1::LoadProgress& progress) = 0;
  virtual void Status(const v1::ClusterStatus& status) = 0;
};

// Writes to `fd` (standard output, or the pipe to a waiting `up --detach`).
std::unique_ptr<Reporter> MakeReporter(int fd);

// "[#####-----]  50 %  1.2 of 2.4 GB, 120 of 240 tensors, 3 s left"; without a bar when `width` is
// 0.
std::string ProgressText(const v1::LoadProgress& progress, int width);
// "ready | plan split | 12.3 tok/s | 1 running, 0 waiting"
std::string StatusLine(const v1::ClusterStatus& status);
// The table of `tandem status`: plan, workers with devices, stages, edges.
std::string StatusTable(const v1::ClusterStatus& status);
// What `tandem status --plan` prints.
std::string PlanTable(const v1::PlanReport& report);

}  // namespace tandem
