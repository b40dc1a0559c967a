#include "loader/serve/loader_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/base/checksum.h"
#include "lib/base/dma_buf.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/version.h"
#include "lib/tls/cluster_tls.h"
#include "lib/weights/region_socket.h"
#include "lib/wire/model_wire.h"
#include "lib/wire/weights_wire.h"
#include "loader/serve/loader_metrics.h"
#include "loader/serve/watch_hub.h"
#include "tandem/v1/loader.grpc.pb.h"

namespace tandem {
namespace {

constexpr char kServiceName[] = "tandem.v1.Loader";

v1::Model MakeModel(const LoaderServerOptions& options, const ModelSource& source,
                    const ModelPacker& packer, std::string_view quant) {
  v1::Model model;
  *model.mutable_config() = ToProto(source.config());
  *model.mutable_vocabulary() = ToProto(source.vocabulary());
  model.set_chat_template(source.chat_template());
  for (const std::string& name : source.file_names()) model.add_files(name);
  model.set_weight_format(std::string(packer.weight_format()));
  std::uint64_t bytes = 0;
  for (const RegionManifest& layout : packer.layouts()) bytes += layout.bytes;
  model.set_weight_bytes(bytes);
  model.set_region_socket(options.region_socket);
  model.set_fingerprint(ModelFingerprint(source, quant));
  model.set_metrics(options.metrics);
  return model;
}

class LoaderService final : public v1::Loader::CallbackService {
 public:
  LoaderService(v1::Model model, ProgressTracker& tracker)
      : model_(std::move(model)), tracker_(tracker), hub_(tracker) {}

  void SetRegions(std::map<std::string, v1::RegionManifest> regions) {
    const std::lock_guard lock(mutex_);
    regions_ = std::move(regions);
  }

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest*, v1::Model* response) override {
    *response = model_;
    return Done(context, grpc::Status::OK);
  }

  grpc::ServerUnaryReactor* Metrics(grpc::CallbackServerContext* context, const v1::MetricsRequest*,
                                    v1::MetricsText* response) override {
    response->set_text(LoaderMetricsText(tracker_.Get()));
    return Done(context, grpc::Status::OK);
  }

  grpc::ServerWriteReactor<v1::LoadProgress>* Watch(grpc::CallbackServerContext*,
                                                    const v1::WatchRequest*) override {
    return hub_.NewWatcher();
  }

  grpc::ServerUnaryReactor* GetRegions(grpc::CallbackServerContext* context,
                                       const v1::GetRegionsRequest* request,
                                       v1::GetRegionsResponse* response) override {
    const std::lock_guard lock(mutex_);
    if (regions_.empty()) {
      return Done(context, {grpc::StatusCode::FAILED_PRECONDITION,
                            "the regions are not loaded yet: Watch says when they are"});
    }
    if (request->names().empty()) {
      for (const auto& [name, region] : regions_) *response->add_regions() = region;
    }
    for (const std::string& name : request->names()) {
      const auto it = regions_.find(name);
      if (it == regions_.end()) {
        return Done(context, {grpc::StatusCode::NOT_FOUND,
                              absl::StrCat("region '", name, "': expected one of ", regions_.size(),
                                           " regions")});
      }
      *response->add_regions() = it->second;
    }
    return Done(context, grpc::Status::OK);
  }

 private:
  static grpc::ServerUnaryReactor* Done(grpc::CallbackServerContext* context,
                                        const grpc::Status& status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(status);
    return reactor;
  }

  const v1::Model model_;
  ProgressTracker& tracker_;
  WatchHub hub_;
  std::mutex mutex_;
  std::map<std::string, v1::RegionManifest> regions_;  // guarded by mutex_
};

// Opens udmabuf and tries it with one page: then it is known at the start whether regions have
// windows.
std::optional<Udmabuf> OpenUdmabuf() {
  absl::StatusOr<Udmabuf> udmabuf = Udmabuf::Open();
  absl::Status works = udmabuf.status();
  if (works.ok()) {
    const absl::StatusOr<SharedMemory> page = SharedMemory::Create("tandem-trial", PageSize());
    works = page.ok() ? SealForGood(page->fd.get()) : page.status();
    if (works.ok()) works = udmabuf->Make(page->fd.get(), 0, PageSize()).status();
  }
  if (!works.ok()) {
    spdlog::info("no dma-bufs of weights: {}", works.ToString());
    return std::nullopt;
  }
  spdlog::info("weights are handed out as dma-bufs of at most {} MiB too",
               udmabuf->max_bytes() >> 20);
  return *std::move(udmabuf);
}

}  // namespace

std::string ModelFingerprint(const ModelSource& source, std::string_view quant) {
  const std::string identity =
      absl::StrCat(source.fingerprint(), "|", AbslView(quant), "|", kVersion);
  return absl::StrCat(absl::Hex(Checksum(std::as_bytes(std::span(identity))), absl::kZeroPad16));
}

struct LoaderServer::Impl {
  Impl(v1::Model model, ProgressTracker& progress)
      : tracker(progress), service(std::move(model), progress) {}

  void SetHealth(bool serving) {
    grpc::HealthCheckServiceInterface* health = server->GetHealthCheckService();
    health->SetServingStatus(serving);
    health->SetServingStatus(kServiceName, serving);
  }

  void SetDamage(const absl::Status& status) {
    {
      const std::lock_guard lock(damage_mutex);
      if (!damage.ok()) return;
      damage = status;
    }
    const std::uint64_t one = 1;
    TANDEM_CHECK(::write(damage_fd.get(), &one, sizeof(one)) == sizeof(one));
  }

  ProgressTracker& tracker;
  std::string address;
  UniqueFd damage_fd;
  std::mutex damage_mutex;
  absl::Status damage;             // guarded by damage_mutex
  std::uint64_t window_bytes = 0;  // the largest dma-buf of a region; 0: none are made
  std::unique_ptr<RegionServer> region_server;
  LoaderService service;
  std::unique_ptr<ClusterPort> port;
  std::unique_ptr<grpc::Server> server;
};

LoaderServer::LoaderServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LoaderServer::~LoaderServer() { Shutdown(absl::ZeroDuration()); }

absl::StatusOr<std::unique_ptr<LoaderServer>> LoaderServer::Start(
    const LoaderServerOptions& options, const ModelSource& source, const ModelPacker& packer,
    std::string_view quant, ProgressTracker& tracker) {
  auto impl = std::make_unique<Impl>(MakeModel(options, source, packer, quant), tracker);
  impl->damage_fd = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!impl->damage_fd.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  RegionServer::Options regions;
  regions.udmabuf = OpenUdmabuf();
  if (regions.udmabuf.has_value()) impl->window_bytes = regions.udmabuf->max_bytes();
  regions.on_damage = [raw = impl.get()](const absl::Status& status) { raw->SetDamage(status); };
  absl::StatusOr<std::unique_ptr<RegionServer>> region_server =
      RegionServer::Listen(options.region_socket, std::move(regions));
  if (!region_server.ok()) return Annotate(region_server.status(), "--region_socket");
  impl->region_server = *std::move(region_server);

  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  TANDEM_ASSIGN_OR_RETURN(impl->port, ClusterPort::Open("--listen", options.listen, &builder));
  builder.RegisterService(&impl->service);
  // A vocabulary of 262,144 pieces is about 6 MB; clients raise their receive limit to
  // kMaxModelMessageBytes too.
  builder.SetMaxSendMessageSize(kMaxModelMessageBytes);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("--listen: cannot listen on ", options.listen, ": is it in use?"));
  }
  impl->SetHealth(false);
  impl->port->Serve();
  impl->address = impl->port->address().ToString();
  return std::unique_ptr<LoaderServer>(new LoaderServer(std::move(impl)));
}

const std::string& LoaderServer::address() const { return impl_->address; }
int LoaderServer::damage_fd() const { return impl_->damage_fd.get(); }
absl::Status LoaderServer::damage() const {
  const std::lock_guard lock(impl_->damage_mutex);
  return impl_->damage;
}

absl::Status LoaderServer::Publish(std::vector<SealedRegion> regions) {
  std::map<std::string, v1::RegionManifest> messages;
  for (SealedRegion& region : regions) {
    if (impl_->window_bytes != 0) {
      absl::StatusOr<std::vector<ByteSpan>> windows =
          WindowsOf(region.manifest, impl_->window_bytes);
      if (!windows.ok()) {
        spdlog::error("region '{}' has no dma-bufs: {}", region.manifest.name,
                      windows.status().ToString());
      } else {
        region.manifest.windows = *std::move(windows);
      }
    }
    messages.emplace(region.manifest.name, ToProto(region.manifest));
    TANDEM_RETURN_IF_ERROR(impl_->region_server->Publish(region.manifest, std::move(region.fd)));
  }
  impl_->service.SetRegions(std::move(messages));
  impl_->SetHealth(true);
  impl_->tracker.SetReady();
  return absl::OkStatus();
}

void LoaderServer::Fail(const absl::Status& status) { impl_->tracker.SetFailed(status); }

void LoaderServer::Shutdown(absl::Duration grace) {
  if (impl_->server == nullptr) return;
  impl_->SetHealth(false);
  impl_->port->Stop();
  impl_->server->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  impl_->server->Wait();
  impl_->server.reset();
  impl_->region_server.reset();
}

}  // namespace tandem
