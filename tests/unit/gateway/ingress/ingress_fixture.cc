#include "tests/unit/gateway/ingress/ingress_fixture.h"

#include <prometheus/registry.h>

#include "lib/service/listen_address.h"

namespace tandem {

IngressFixture::IngressFixture()
    : metrics_(std::make_shared<prometheus::Registry>()),
      router_(DoorServices{
          .serving = serving_, .metrics = metrics_, .keys = keys_, .read = {}, .spans = &spans_}) {
  auto serving = std::make_shared<Serving>();
  serving->model = {.id = "m",
                    .created = 1700000000,
                    .weight_format = "bf16",
                    .tokenizer = TestTokenizer(),
                    .eos_ids = {TestTokenizer()->vocabulary().eos_id}};
  serving->engine = &engine_;
  serving_.Set(std::move(serving));
}

void IngressFixture::Start() {
  auto address = ParseListenAddress("127.0.0.1:0");
  ASSERT_TRUE(address.ok()) << address.status();
  auto server = HttpServer::Start(*address, options_, router_);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
}

HttpTestClient IngressFixture::Connect() { return HttpTestClient(server_->address()); }

TestReply IngressFixture::Ask(std::string_view method, std::string_view path, std::string_view body,
                              std::string_view headers) {
  HttpTestClient client = Connect();
  client.SendRequest(method, path, body, headers);
  return client.Read();
}

std::string ChatBody(std::string_view members) {
  std::string body = R"({"model":"m","messages":[{"role":"user","content":"Hello"}])";
  if (!members.empty()) body.append(",").append(members);
  return body + "}";
}

std::string CompletionBody(std::string_view members) {
  std::string body = R"({"model":"m")";
  if (members.find("\"prompt\"") == std::string_view::npos) body.append(R"(,"prompt":"Hello")");
  if (!members.empty()) body.append(",").append(members);
  return body + "}";
}

}  // namespace tandem
