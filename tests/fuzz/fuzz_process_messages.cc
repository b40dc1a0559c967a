// Messages that cross the borders between the processes of a cluster, and those that gRPC clients
// send it: any bytes are an error or data that is valid, which written and read again is the same.
// The first byte says which message.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>

#include "gateway/ingress/grpc/request_reader.h"
#include "lib/base/status_macros.h"
#include "lib/weights/region.h"
#include "lib/wire/cost_wire.h"
#include "lib/wire/memory_wire.h"
#include "lib/wire/model_wire.h"
#include "lib/wire/step_wire.h"
#include "lib/wire/weights_wire.h"
#include "lib/worker/edge_call.h"
#include "tandem/v1/descriptors.pb.h"
#include "tandem/v1/inference.pb.h"
#include "tandem/v1/loader.pb.h"
#include "tandem/v1/trace.pb.h"
#include "tandem/v1/worker.pb.h"
#include "tests/fuzz/request_checks.h"

namespace tandem {
namespace {

constexpr std::int32_t kVocabulary = 1000;

// Of the small model of the golden tests: fuzz targets run in the repository's folder.
const ModelConfig& Config() {
  static const ModelConfig config = [] {
    std::ifstream file("tests/golden/data/tiny/config.json");
    const std::string text((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    auto parsed = ParseConfigJson(text, "config.json");
    TANDEM_CHECK(parsed.ok());
    return *std::move(parsed);
  }();
  return config;
}

// As bytes that are the same for equal messages: maps have no order of their own.
std::string Written(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream output(&stream);
  output.SetSerializationDeterministic(true);
  TANDEM_CHECK(message.SerializeToCodedStream(&output));
  output.Trim();
  return bytes;
}

// Reads, and where that goes well writes and reads once more.
template <typename Message, typename Read>
void Turn(const std::string& bytes, const Read& read) {
  Message message;
  if (!message.ParseFromString(bytes)) return;
  const auto value = read(message);
  if (!value.ok()) {
    TANDEM_CHECK(!value.status().message().empty());
    return;
  }
  const Message written = ToProto(*value);
  const auto again = read(written);
  TANDEM_CHECK(again.ok());
  TANDEM_CHECK(Written(ToProto(*again)) == Written(written));
}

void TurnStep(const std::string& bytes) {
  v1::StepPlan message;
  if (!message.ParseFromString(bytes)) return;
  const v1::StepPlan written = ToProto(FromProto(message));
  TANDEM_CHECK(Written(ToProto(FromProto(written))) == Written(written));
}

void TurnResult(const std::string& bytes) {
  v1::StepResult message;
  if (!message.ParseFromString(bytes)) return;
  StepResult result;
  if (!FromProto(message, kVocabulary, &result).ok()) return;
  const v1::StepResult written = ToProto(result);
  StepResult again;
  TANDEM_CHECK(FromProto(written, kVocabulary, &again).ok());
}

void TurnMemory(const std::string& bytes) {
  v1::MemoryDeclaration message;
  if (!message.ParseFromString(bytes)) return;
  const v1::MemoryDeclaration written = ToProto(FromProto(message));
  TANDEM_CHECK(Written(ToProto(FromProto(written))) == Written(written));
}

// What a client asks over gRPC.
template <typename Message, typename Read>
void ReadRequest(const std::string& bytes, const Read& read) {
  Message message;
  if (!message.ParseFromString(bytes)) return;
  const auto request = read(message);
  if (!request.ok()) return CheckReaderError(request.status(), ErrorJson);
  CheckReadRequest(*request);
  TANDEM_CHECK(request->prompts.size() == 1);
}

void TurnCall(const std::string& bytes) {
  const auto call = ParseEdgeCall(bytes);
  if (!call.ok()) return;
  const auto again = ParseEdgeCall(EncodeEdgeCall(*call));
  TANDEM_CHECK(again.ok() && again->id == call->id && again->layout == call->layout &&
               again->kinds == call->kinds && again->generation == call->generation);
}

}  // namespace
}  // namespace tandem

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 15) {
    case 0:
      Turn<v1::ModelConfig>(bytes, [](const auto& m) { return FromProto(m); });
      break;
    case 1:
      Turn<v1::Vocabulary>(bytes, [](const auto& m) { return FromProto(m); });
      break;
    case 2:
      Turn<v1::SamplingParams>(bytes, [](const auto& m) { return FromProto(m, kVocabulary); });
      break;
    case 3:
      Turn<v1::SampledToken>(bytes, [](const auto& m) { return FromProto(m, kVocabulary); });
      break;
    case 4:
      Turn<v1::Plan>(bytes, [](const auto& m) { return FromProto(m, Config()); });
      break;
    case 5:
      Turn<v1::StepLimits>(bytes, [](const auto& m) { return FromProto(m); });
      break;
    case 6:
      Turn<v1::RegionManifest>(bytes, [](const auto& m) { return FromProto(m, Config()); });
      break;
    case 7:
      TurnStep(bytes);
      break;
    case 8:
      TurnResult(bytes);
      break;
    case 9:
      TurnMemory(bytes);
      break;
    case 10:
      Turn<v1::StageCosts>(bytes, [](const auto& m) { return FromProto(m); });
      break;
    case 12:
      Turn<v1::EdgeCosts>(bytes, [](const auto& m) { return FromProto(m); });
      break;
    case 13:
      ReadRequest<v1::GenerateRequest>(bytes, ReadGenerateRequest);
      break;
    case 14:
      ReadRequest<v1::EmbedRequest>(bytes, ReadEmbedRequest);
      break;
    default:
      TurnCall(bytes);
      break;
  }
  return 0;
}
