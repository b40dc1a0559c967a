#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/weights/make_region.h"
#include "lib/weights/region.h"
#include "loader/pack/model_packer.h"
#include "loader/read/model_source.h"
#include "loader/serve/progress_tracker.h"

namespace tandem {

struct LoaderServerOptions {
  std::string listen;         // see InnerListenAddress
  std::string region_socket;  // path of the Unix socket that hands out descriptors
  std::string metrics = {};   // where the process' own /metrics listens; empty: nowhere
};

// Changes when the files change, the format in memory, or the program that packs.
std::string ModelFingerprint(const ModelSource& source, std::string_view quant);

// The service tandem.v1.Loader with health and reflection, and the socket beside it. GetModel
// answers from the start; health says SERVING and GetRegions answers after Publish. Any thread.
class LoaderServer {
 public:
  // Starts to listen. `tracker` must outlive the server.
  static absl::StatusOr<std::unique_ptr<LoaderServer>> Start(const LoaderServerOptions& options,
                                                             const ModelSource& source,
                                                             const ModelPacker& packer,
                                                             std::string_view quant,
                                                             ProgressTracker& tracker);
  ~LoaderServer();  // Shutdown without grace
  LoaderServer(const LoaderServer&) = delete;
  LoaderServer& operator=(const LoaderServer&) = delete;

  const std::string& address() const;  // with the port that was taken
  // Becomes readable when a published region turned out to be damaged; `damage` says which. The
  // process should end: the next one takes back what is whole and packs the rest anew.
  int damage_fd() const;
  absl::Status damage() const;
  // All regions at once, then READY. Where this system makes dma-bufs the manifests get windows.
  absl::Status Publish(std::vector<SealedRegion> regions);
  // Watchers get the final FAILED message.
  void Fail(const absl::Status& status);
  // Ends calls after `grace`. Once.
  void Shutdown(absl::Duration grace);

 private:
  struct Impl;
  explicit LoaderServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
