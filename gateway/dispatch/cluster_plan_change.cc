// A planned change of the plan, from the question to its end. What happens in between is the
// recovery's.
#include <spdlog/spdlog.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/dispatch/cluster_impl.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// A worker that is there answers at once.
constexpr absl::Duration kCheckTimeout = absl::Seconds(3);

}  // namespace

// The answers of a plan's workers as they come, on gRPC's threads.
struct Cluster::Impl::PlanCheck {
  SharedPlan plan;
  std::mutex mutex;
  std::size_t pending = 0;
  // The first that is not OK.
  absl::Status status;
};

absl::StatusOr<std::uint64_t> Cluster::Impl::ChangePlan(const std::string& name) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!trying_.empty())
      return absl::FailedPreconditionError(absl::StrCat("the cluster is ", trying_));
  }
  return BeginChange(name);
}

absl::StatusOr<std::uint64_t> Cluster::Impl::BeginChange(const std::string& name) {
  TANDEM_ASSIGN_OR_RETURN(
      const SharedPlan wanted,
      MakeClusterPlan(name, setup_.model.config, setup_.workers(), setup_.options.micro_batches));
  std::uint64_t number = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (change_.state == kChangeRunning) {
      return absl::FailedPreconditionError(
          absl::StrCat("a change to plan '", change_.to, "' is in progress"));
    }
    number = change_.number + 1;
    change_ = {number, plan().name, name, kChangeRunning, ""};
    if (wanted->plan.routes == plan().plan.routes) {
      FinishChange(absl::OkStatus());
      return number;
    }
  }
  spdlog::info("asked for plan {}", name);
  CheckWorkers(wanted);
  return number;
}

// Before anything that runs is touched.
void Cluster::Impl::CheckWorkers(const SharedPlan& plan) {
  auto check = std::make_shared<PlanCheck>();
  check->plan = plan;
  for (const std::uint8_t member : plan->members) check->pending += member;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (plan->members[i] == 0) continue;
    links_[i]->Ask(kCheckTimeout, [this, i, check](absl::Status status,
                                                   const v1::WorkerDescription& described) {
      if (status.ok()) status = CheckDescription(i, described);
      const std::lock_guard<std::mutex> lock(check->mutex);
      if (!status.ok() && check->status.ok())
        check->status = Annotate(status, absl::StrCat("worker ", setup_.workers()[i].name));
      if (--check->pending > 0) return;
      Post([this, plan = check->plan, checked = check->status](absl::Duration) {
        OnWorkersChecked(plan, checked);
      });
    });
  }
}

void Cluster::Impl::OnWorkersChecked(const SharedPlan& plan, const absl::Status& status) {
  const absl::Status taken = status.ok() ? coordinator_.ChangePlan(plan) : status;
  if (!taken.ok()) FinishChange(taken);
}

void Cluster::Impl::EndChange(const RecoveryAction& action) {
  trace_.SetPlan(coordinator_.recovery().plan()->plan.name);
  const std::lock_guard<std::mutex> lock(mutex_);
  FinishChange(action.status);
}

void Cluster::Impl::FinishChange(const absl::Status& status) {
  change_.state = status.ok() ? kChangeDone : kChangeFailed;
  change_.error = std::string(status.message());
  auto_wake_.notify_all();
  if (status.ok()) {
    spdlog::info("plan {} in place of {}", change_.to, change_.from);
  } else {
    spdlog::error("plan {} stays: changing to {} failed: {}", change_.from, change_.to,
                  change_.error);
  }
}

}  // namespace tandem
