#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/client.h"
#include "cli/cluster_files.h"
#include "cli/commands.h"
#include "lib/base/fd.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr int kExitInterrupted = 130;  // as shells have it

// Ctrl-C as a descriptor. Create it before anything starts a thread.
class Interrupts {
 public:
  Interrupts() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  int fd() const { return fd_.get(); }
  // Whether Ctrl-C has come since the last call.
  bool Take() const {
    signalfd_siginfo info;
    bool came = false;
    while (::read(fd_.get(), &info, sizeof(info)) > 0) came = true;
    return came;
  }

 private:
  UniqueFd fd_;
};

// Lines of standard input, and Ctrl-C while waiting for one.
class Input {
 public:
  explicit Input(const Interrupts& interrupts) : interrupts_(interrupts) {}
  // False at the end of the input, and after Ctrl-C.
  bool Line(std::string* line) {
    while (true) {
      if (const std::size_t end = text_.find('\n'); end != std::string::npos) {
        *line = text_.substr(0, end);
        text_.erase(0, end + 1);
        return true;
      }
      pollfd entries[] = {{STDIN_FILENO, POLLIN, 0}, {interrupts_.fd(), POLLIN, 0}};
      if (::poll(entries, 2, -1) < 0 && errno != EINTR) return false;
      if (entries[1].revents != 0) return false;
      if (entries[0].revents == 0) continue;
      char buffer[4096];
      const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof(buffer));
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got <= 0) {
        *line = std::exchange(text_, {});
        return !line->empty();
      }
      text_.append(buffer, static_cast<std::size_t>(got));
    }
  }

 private:
  const Interrupts& interrupts_;
  std::string text_;  // read, not used yet
};

struct Turn {
  std::string text;
  int tokens = 0;
  double first_seconds = 0;  // until the first text
  double seconds = 0;
  bool stopped = false;  // by Ctrl-C
};

// Streams one answer to standard output.
absl::StatusOr<Turn> Ask(GatewayClient* client, const v1::GenerateRequest& request,
                         const Interrupts& interrupts) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  Turn turn;
  interrupts.Take();
  const auto on_message = [&](const v1::GenerateResponse& message) {
    if (turn.tokens == 0 && message.tokens_size() > 0) turn.first_seconds = elapsed();
    turn.tokens += message.tokens_size();
    turn.text += message.text();
    std::fwrite(message.text().data(), 1, message.text().size(), stdout);
    std::fflush(stdout);
  };
  const absl::Status status = client->Generate(request, interrupts.fd(), on_message);
  turn.stopped = interrupts.Take();
  TANDEM_RETURN_IF_ERROR(status);
  turn.seconds = elapsed();
  std::printf("\n");
  return turn;
}

void PrintSpeed(const Turn& turn) {
  const double decode = turn.seconds - turn.first_seconds;
  const double rate = turn.tokens > 1 && decode > 0 ? (turn.tokens - 1) / decode : 0;
  std::fprintf(stderr, "[%d tokens, first after %.0f ms, %.1f tok/s]\n", turn.tokens,
               turn.first_seconds * 1e3, rate);
}

v1::GenerateRequest NewConversation(const ChatOptions& options) {
  v1::GenerateRequest request;
  request.mutable_chat();
  if (!options.system.empty()) {
    v1::ChatMessage* system = request.mutable_chat()->add_messages();
    system->set_role("system");
    system->set_content(options.system);
  }
  if (options.temperature >= 0) request.set_temperature(static_cast<float>(options.temperature));
  request.set_max_tokens(options.max_tokens);
  return request;
}

void AddMessage(v1::GenerateRequest* request, const char* role, const std::string& content) {
  v1::ChatMessage* message = request->mutable_chat()->add_messages();
  message->set_role(role);
  message->set_content(content);
}

int Converse(GatewayClient* client, const ChatOptions& options, const Interrupts& interrupts) {
  const absl::StatusOr<v1::ServedModel> model = client->Model(absl::Seconds(5));
  if (!model.ok()) return Fail(model.status());
  std::printf(
      "%s (%s), plan %s, %d tokens of context. /reset forgets, /quit or Ctrl-D leaves, Ctrl-C "
      "stops an answer, or leaves.\n",
      model->id().c_str(), model->weight_format().c_str(), model->plan().c_str(),
      model->context_tokens());
  v1::GenerateRequest request = NewConversation(options);
  Input input(interrupts);
  for (std::string line; std::printf("> "), std::fflush(stdout), input.Line(&line);) {
    if (line == "/quit") break;
    if (line == "/reset") {
      request = NewConversation(options);
      continue;
    }
    if (line.empty()) continue;
    AddMessage(&request, "user", line);
    const absl::StatusOr<Turn> turn = Ask(client, request, interrupts);
    if (!turn.ok()) {
      std::fprintf(stderr, "error: %s\n", std::string(turn.status().message()).c_str());
      request.mutable_chat()
          ->mutable_messages()
          ->RemoveLast();  // the question was not answered: roles must alternate
      continue;
    }
    if (turn->text.empty()) {
      // Stopped before anything came: as if it had not been asked.
      request.mutable_chat()->mutable_messages()->RemoveLast();
      continue;
    }
    AddMessage(&request, "assistant", turn->text);
    PrintSpeed(*turn);
  }
  return 0;
}

}  // namespace

absl::StatusOr<GatewayClient> ConnectTo(const ClusterPaths& paths, const GatewayAddress& gateway) {
  if (!gateway.grpc.empty()) {
    TANDEM_ASSIGN_OR_RETURN(std::string key, ReadApiKey(gateway.api_key_file));
    std::string authorities;
    if (!gateway.tls_ca.empty()) {
      std::ifstream file(gateway.tls_ca);
      authorities.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      if (authorities.empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat("--tls_ca: '", gateway.tls_ca, "' cannot be read"));
      }
    }
    return GatewayClient(gateway.grpc, std::move(key), authorities);
  }
  TANDEM_ASSIGN_OR_RETURN(const ClusterState state, ReadState(paths));
  if (state.grpc.empty()) return absl::UnavailableError("the gateway does not listen yet");
  return GatewayClient(GatewaySocket(paths));
}

int CommandChat(const ClusterPaths& paths, const ChatOptions& options) {
  const Interrupts interrupts;
  absl::StatusOr<GatewayClient> connected = ConnectTo(paths, options.gateway);
  if (!connected.ok()) return Fail(connected.status());
  GatewayClient& client = *connected;
  if (options.once.empty()) return Converse(&client, options, interrupts);
  v1::GenerateRequest request = NewConversation(options);
  AddMessage(&request, "user", options.once);
  const absl::StatusOr<Turn> turn = Ask(&client, request, interrupts);
  if (!turn.ok()) return Fail(turn.status());
  PrintSpeed(*turn);
  return turn->stopped ? kExitInterrupted : 0;
}

int CommandTokenize(const ClusterPaths& paths, const TokenizeOptions& options) {
  absl::StatusOr<GatewayClient> connected = ConnectTo(paths, options.gateway);
  if (!connected.ok()) return Fail(connected.status());
  GatewayClient& client = *connected;
  if (!options.decode) {
    const std::string text((std::istreambuf_iterator<char>(std::cin)),
                           std::istreambuf_iterator<char>());
    const absl::StatusOr<std::vector<std::int32_t>> ids =
        client.Tokenize(text, options.bos, /*parse_special=*/true);
    if (!ids.ok()) return Fail(ids.status());
    for (std::size_t i = 0; i < ids->size(); ++i) std::printf("%s%d", i == 0 ? "" : " ", (*ids)[i]);
    std::printf("\n");
    return 0;
  }
  std::vector<std::int32_t> ids;
  for (std::string word; std::cin >> word;) {
    char* end = nullptr;
    errno = 0;
    const long id = std::strtol(word.c_str(), &end, 10);
    if (*end != '\0' || errno != 0 || id < 0 || id > INT32_MAX) {
      return Fail(
          absl::InvalidArgumentError(absl::StrCat("expected token ids, found '", word, "'")));
    }
    ids.push_back(static_cast<std::int32_t>(id));
  }
  const absl::StatusOr<std::string> text = client.Detokenize(ids);
  if (!text.ok()) return Fail(text.status());
  std::fwrite(text->data(), 1, text->size(), stdout);
  return 0;
}

}  // namespace tandem
