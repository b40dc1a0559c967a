#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "lib/base/thread_pool.h"
#include "lib/model/config.h"
#include "lib/weights/make_region.h"

namespace tandem {

// What a loader that came back after it died takes back.
struct AdoptRequest {
  // The workers' descriptor sockets. Those that nobody listens on are passed over.
  std::vector<std::string> sockets;
  // Of the model that is loaded now, in the format that is asked for now.
  std::string fingerprint;
  ModelConfig config;
  // As this loader would pack them, without checksums.
  std::vector<RegionManifest> layouts;
};

// Asks the workers for the regions that they still have mapped, and returns those that are, to the
// byte, what this loader would make: sealed in size, laid out as `layouts` say, with the checksums
// they were published with. A region is published only when it is whole, so none is half written.
// What is left out is logged with the reason; nothing here is an error, what is missing is packed.
std::vector<SealedRegion> AdoptRegions(const AdoptRequest& request, ThreadPool& pool);

}  // namespace tandem
