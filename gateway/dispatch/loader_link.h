#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/dispatch/rpc.h"
#include "tandem/v1/loader.grpc.pb.h"

namespace tandem {

// The gateway's end of the loader. One thread at a time.
class LoaderLink {
 public:
  explicit LoaderLink(const std::string& address);
  ~LoaderLink() { Stop(); }

  // Blocks until the loader answers; with nobody there, until the timeout.
  absl::StatusOr<v1::Model> GetModel(absl::Duration timeout);

  // What Prepare needs of a loader that is ready.
  struct Loaded {
    std::string fingerprint;
    std::string region_socket;
    std::vector<v1::RegionManifest> regions;
  };
  struct Handlers {
    std::function<void(std::string text)> on_progress;           // "loading 42 %"
    std::function<void(absl::StatusOr<Loaded> loaded)> on_done;  // once
  };
  // Waits in a thread of its own until the loader is ready, then fetches the manifests of
  // `regions`. Ends a Load that still runs (its on_done comes first). Handlers run on that thread.
  void Load(std::vector<std::string> regions, absl::Duration timeout, Handlers handlers);
  void Stop();  // ends a Load that runs and waits for its on_done

 private:
  absl::StatusOr<Loaded> Run(const std::vector<std::string>& regions, absl::Duration timeout,
                             const Handlers& handlers);
  absl::Status WaitUntilReady(absl::Duration timeout, const Handlers& handlers);

  std::unique_ptr<v1::Loader::Stub> stub_;
  std::unique_ptr<CallSet> calls_;  // of the Load that runs
  std::thread thread_;
};

// "loading 42 %, 12 s left".
std::string ProgressText(const v1::LoadProgress& progress);

}  // namespace tandem
