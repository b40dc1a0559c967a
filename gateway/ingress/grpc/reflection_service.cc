#include "gateway/ingress/grpc/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>
#include <string>
#include <vector>

#include "grpc/health/v1/health.pb.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "lib/base/strings.h"
#include "tandem/v1/control.pb.h"
#include "tandem/v1/inference.pb.h"
#include "tandem/v1/trace.pb.h"

namespace tandem {
namespace {

namespace reflection = grpc::reflection::v1;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

// Names are shorter.
constexpr std::size_t kMaxQuestionBytes = 4096;

// The services of the port. v1alpha is answered as well, but nothing describes it.
std::vector<std::string> ServiceNames() {
  return {v1::GenerateRequest::descriptor()->file()->service(0)->full_name(),
          v1::TraceRequest::descriptor()->file()->service(0)->full_name(),
          v1::ChangePlanRequest::descriptor()->file()->service(0)->full_name(),
          grpc::health::v1::HealthCheckRequest::descriptor()->file()->service(0)->full_name(),
          reflection::ServerReflectionRequest::descriptor()->file()->service(0)->full_name()};
}

void AddFile(const FileDescriptor& file, std::set<const FileDescriptor*>& added,
             reflection::FileDescriptorResponse& response) {
  if (!added.insert(&file).second) return;
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  response.add_file_descriptor_proto(proto.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i), added, response);
}

void SetError(grpc::StatusCode code, const std::string& message,
              reflection::ServerReflectionResponse& response) {
  response.mutable_error_response()->set_error_code(code);
  response.mutable_error_response()->set_error_message(message);
}

void SetFile(const FileDescriptor* file, const std::string& what,
             reflection::ServerReflectionResponse& response) {
  if (file == nullptr) return SetError(grpc::StatusCode::NOT_FOUND, what, response);
  std::set<const FileDescriptor*> added;
  AddFile(*file, added, *response.mutable_file_descriptor_response());
}

void SetExtension(const reflection::ExtensionRequest& request,
                  reflection::ServerReflectionResponse& response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  const auto* type = pool.FindMessageTypeByName(request.containing_type());
  const FieldDescriptor* extension =
      type == nullptr ? nullptr : pool.FindExtensionByNumber(type, request.extension_number());
  SetFile(extension == nullptr ? nullptr : extension->file(), "no such extension", response);
}

void SetExtensionNumbers(const std::string& name, reflection::ServerReflectionResponse& response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  const auto* type = pool.FindMessageTypeByName(name);
  if (type == nullptr) return SetError(grpc::StatusCode::NOT_FOUND, "no such type", response);
  auto& numbers = *response.mutable_all_extension_numbers_response();
  numbers.set_base_type_name(name);
  std::vector<const FieldDescriptor*> extensions;
  pool.FindAllExtensions(type, &extensions);
  for (const FieldDescriptor* extension : extensions) {
    numbers.add_extension_number(extension->number());
  }
}

void Answer(const reflection::ServerReflectionRequest& request,
            reflection::ServerReflectionResponse& response) {
  using Request = reflection::ServerReflectionRequest;
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  response.Clear();
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  switch (request.message_request_case()) {
    case Request::kFileByFilename:
      return SetFile(pool.FindFileByName(request.file_by_filename()), "no such file", response);
    case Request::kFileContainingSymbol:
      return SetFile(pool.FindFileContainingSymbol(request.file_containing_symbol()),
                     "no such symbol", response);
    case Request::kFileContainingExtension:
      return SetExtension(request.file_containing_extension(), response);
    case Request::kAllExtensionNumbersOfType:
      return SetExtensionNumbers(request.all_extension_numbers_of_type(), response);
    case Request::kListServices:
      for (const std::string& name : ServiceNames()) {
        response.mutable_list_services_response()->add_service()->set_name(name);
      }
      return;
    case Request::MESSAGE_REQUEST_NOT_SET:
      return SetError(grpc::StatusCode::INVALID_ARGUMENT, "expected a request, found none",
                      response);
  }
}

// Question and answer in turn. Owns itself.
class ReflectionCall final : public grpc::ServerBidiReactor<reflection::ServerReflectionRequest,
                                                            reflection::ServerReflectionResponse> {
 public:
  ReflectionCall(CallHost& host, grpc::CallbackServerContext* context)
      : host_(host), timer_(host.timers.Add(context)) {
    Read();
  }

  void OnReadDone(bool ok) override {
    timer_->Clear();
    host_.keyless_reads.End(timer_);
    if (!ok) return Finish(grpc::Status::OK);
    // Asked without a key, and what is asked comes back in the answer.
    if (request_.ByteSizeLong() > kMaxQuestionBytes) {
      request_ = reflection::ServerReflectionRequest();
      return Finish(
          grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                       Cat("a question: expected at most ", kMaxQuestionBytes, " bytes")));
    }
    Answer(request_, response_);
    timer_->Set(host_.options.write_timeout);
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    timer_->Clear();
    if (!ok) return Finish(grpc::Status::OK);
    Read();
  }
  void OnDone() override {
    timer_->Forget();
    host_.keyless_reads.End(timer_);
    delete this;
  }

 private:
  void Read() {
    timer_->Set(host_.options.read_timeout);
    host_.keyless_reads.Begin(timer_);
    StartRead(&request_);
  }

  CallHost& host_;
  const std::shared_ptr<CallTimer> timer_;
  reflection::ServerReflectionRequest request_;
  reflection::ServerReflectionResponse response_;
};

}  // namespace

ReflectionService::ReflectionService(CallHost& host) {
  using Handler = grpc::internal::CallbackBidiHandler<reflection::ServerReflectionRequest,
                                                      reflection::ServerReflectionResponse>;
  int index = 0;
  for (const char* name : {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                           "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}) {
    AddMethod(new grpc::internal::RpcServiceMethod(name, grpc::internal::RpcMethod::BIDI_STREAMING,
                                                   nullptr));
    MarkMethodCallback(index++, new Handler([&host](grpc::CallbackServerContext* context) {
                         return new ReflectionCall(host, context);
                       }));
  }
}

}  // namespace tandem
