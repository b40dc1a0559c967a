#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/state.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

volatile std::sig_atomic_t interrupted = 0;

struct Turn {
  std::string text;
  int tokens = 0;
  double first_seconds = 0;  // until the first text
  double seconds = 0;
};

// Streams one answer to standard output.
absl::StatusOr<Turn> Ask(GatewayClient* client, const v1::GenerateRequest& request) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  Turn turn;
  interrupted = 0;
  TANDEM_RETURN_IF_ERROR(client->Generate(request, [&](const v1::GenerateResponse& message) {
    if (turn.tokens == 0 && message.tokens_size() > 0) turn.first_seconds = elapsed();
    turn.tokens += message.tokens_size();
    turn.text += message.text();
    std::fwrite(message.text().data(), 1, message.text().size(), stdout);
    std::fflush(stdout);
    return interrupted == 0;
  }));
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

absl::StatusOr<std::string> GatewayAddress(const ClusterPaths& paths, const ChatOptions& options,
                                           std::string* api_key_file) {
  *api_key_file = options.api_key_file;
  if (!options.grpc.empty()) return options.grpc;
  TANDEM_ASSIGN_OR_RETURN(const ClusterState state, ReadState(paths));
  if (state.grpc.empty()) return absl::UnavailableError("the gateway does not listen yet");
  if (api_key_file->empty()) *api_key_file = state.api_key_file;
  return state.grpc;
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

int Converse(GatewayClient* client, const ChatOptions& options) {
  const absl::StatusOr<v1::ServedModel> model = client->Model(absl::Seconds(5));
  if (!model.ok()) return Fail(model.status());
  std::printf(
      "%s (%s), plan %s, %d tokens of context. /reset forgets, /quit or Ctrl-D leaves, Ctrl-C "
      "stops an answer.\n",
      model->id().c_str(), model->weight_format().c_str(), model->plan().c_str(),
      model->context_tokens());
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  v1::GenerateRequest request = NewConversation(options);
  for (std::string line; std::printf("> "), std::fflush(stdout), std::getline(std::cin, line);) {
    if (line == "/quit") break;
    if (line == "/reset") {
      request = NewConversation(options);
      continue;
    }
    if (line.empty()) continue;
    AddMessage(&request, "user", line);
    const absl::StatusOr<Turn> turn = Ask(client, request);
    if (!turn.ok()) {
      std::fprintf(stderr, "error: %s\n", std::string(turn.status().message()).c_str());
      request.mutable_chat()
          ->mutable_messages()
          ->RemoveLast();  // the question was not answered: roles must alternate
      continue;
    }
    AddMessage(&request, "assistant", turn->text);
    PrintSpeed(*turn);
  }
  return 0;
}

}  // namespace

int CommandChat(const ClusterPaths& paths, const ChatOptions& options) {
  std::string api_key_file;
  const absl::StatusOr<std::string> address = GatewayAddress(paths, options, &api_key_file);
  if (!address.ok()) return Fail(address.status());
  const absl::StatusOr<std::string> key = ReadApiKey(api_key_file);
  if (!key.ok()) return Fail(key.status());
  GatewayClient client(*address, *key);
  if (options.once.empty()) return Converse(&client, options);
  v1::GenerateRequest request = NewConversation(options);
  AddMessage(&request, "user", options.once);
  const absl::StatusOr<Turn> turn = Ask(&client, request);
  if (!turn.ok()) return Fail(turn.status());
  PrintSpeed(*turn);
  return 0;
}

int CommandTokenize(const ClusterPaths& paths, bool decode, bool add_bos, const std::string& grpc,
                    const std::string& api_key_file) {
  ChatOptions where;
  where.grpc = grpc;
  where.api_key_file = api_key_file;
  std::string key_file;
  const absl::StatusOr<std::string> address = GatewayAddress(paths, where, &key_file);
  if (!address.ok()) return Fail(address.status());
  const absl::StatusOr<std::string> key = ReadApiKey(key_file);
  if (!key.ok()) return Fail(key.status());
  GatewayClient client(*address, *key);
  if (!decode) {
    const std::string text((std::istreambuf_iterator<char>(std::cin)),
                           std::istreambuf_iterator<char>());
    const absl::StatusOr<std::vector<std::int32_t>> ids =
        client.Tokenize(text, add_bos, /*parse_special=*/true);
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
