#include "cli/watcher.h"

#include <grpcpp/grpcpp.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/client.h"
#include "tandem/v1/loader.grpc.pb.h"

namespace tandem {
namespace {

constexpr int kStatusPeriodMs = 500;
constexpr int kStartPeriodMs = 50;

}  // namespace

Watcher::Watcher(std::string loader_address, std::string gateway_ready_file, std::string gateway)
    : loader_address_(std::move(loader_address)),
      ready_file_(std::move(gateway_ready_file)),
      gateway_(std::move(gateway)),
      event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  loader_thread_ = std::thread([this] { FollowLoader(); });
  gateway_thread_ = std::thread([this] { FollowGateway(); });
}

Watcher::~Watcher() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    if (running_ != nullptr) running_->TryCancel();
  }
  stop_changed_.notify_all();
  loader_thread_.join();
  gateway_thread_.join();
}

void Watcher::ClearEvent() const {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_.get(), &count, sizeof(count));
}

void Watcher::Notify() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof(one));
}

Watcher::News Watcher::Take() {
  std::lock_guard lock(mutex_);
  News news = news_;
  news_.progress.reset();
  news_.status.reset();
  return news;
}

bool Watcher::Pause(int milliseconds) {
  std::unique_lock lock(mutex_);
  return !stop_changed_.wait_for(lock, std::chrono::milliseconds(milliseconds),
                                 [&] { return stop_; });
}

void Watcher::FollowLoader() {
  const auto stub =
      v1::Loader::NewStub(grpc::CreateChannel(loader_address_, grpc::InsecureChannelCredentials()));
  while (true) {
    grpc::ClientContext context;
    context.set_wait_for_ready(false);
    {
      std::lock_guard lock(mutex_);
      if (stop_) return;
      running_ = &context;
    }
    const auto reader = stub->Watch(&context, v1::WatchRequest());
    v1::LoadProgress progress;
    bool final = false;
    while (reader->Read(&progress)) {
      final = progress.state() != v1::LoadProgress::LOADING;
      {
        std::lock_guard lock(mutex_);
        news_.progress = progress;
      }
      Notify();
    }
    reader->Finish();
    {
      std::lock_guard lock(mutex_);
      running_ = nullptr;
    }
    if (final || !Pause(kStartPeriodMs)) return;
  }
}

bool Watcher::ReadGatewayAddresses() {
  std::ifstream in(ready_file_);
  if (!in) return false;
  const nlohmann::json json = nlohmann::json::parse(in, nullptr, false);
  if (!json.is_object() || !json.value("http", nlohmann::json()).is_string() ||
      !json.value("grpc", nlohmann::json()).is_string()) {
    return false;
  }
  std::lock_guard lock(mutex_);
  news_.http = json["http"].get<std::string>();
  news_.grpc = json["grpc"].get<std::string>();
  return true;
}

void Watcher::FollowGateway() {
  while (!ReadGatewayAddresses()) {
    if (!Pause(kStartPeriodMs)) return;
  }
  Notify();
  GatewayClient client(gateway_);
  bool was_ready = false;
  do {
    absl::StatusOr<v1::ClusterStatus> status = client.Status(absl::Seconds(2));
    if (!status.ok()) continue;
    was_ready = status->state() == "ready";
    {
      std::lock_guard lock(mutex_);
      news_.status = *std::move(status);
    }
    Notify();
  } while (Pause(was_ready ? kStatusPeriodMs : kStartPeriodMs));
}

}  // namespace tandem
