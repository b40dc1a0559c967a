#include "lib/service/cluster_settings.h"

#include "lib/model/step_limits.h"

namespace tandem {
namespace {

constexpr std::int32_t kMaxThreads = 1024;
constexpr std::uint64_t kMaxKvBytes = std::uint64_t{1} << 44;
constexpr std::int32_t kMaxQueue = 1 << 20;
constexpr std::uint64_t kMaxBodyBytes = std::uint64_t{1} << 30;
constexpr std::int32_t kMaxConnections = 1 << 16;

void AddClientLimitFlags(FlagList* flags, ClientLimits* s) {
  flags->Section("Limits of clients");
  flags->Bytes("max_body", &s->max_body, 1 << 10, kMaxBodyBytes,
               "longest body of a request, and longest gRPC message");
  flags->Bytes("max_head", &s->max_head, 1 << 10, 1 << 20, "longest head of an HTTP request");
  flags->Number("max_json_depth", &s->max_json_depth, 8, 128, "levels that a JSON body may nest");
  flags->Number("max_stops", &s->max_stops, 0, 64, "stop strings of a request");
  flags->Number("max_choices", &s->max_choices, 1, 1024, "prompts times n of a request");
  flags->Bytes("max_schema", &s->max_schema, 0, 4 << 20,
               "schemas and grammars of a request, its tools' too, together");
  flags->Number("max_connections", &s->max_connections, 1, kMaxConnections,
                "connections of each port; for one more, the one that does least is closed");
  flags->Number("max_connections_per_client", &s->max_connections_per_client, 1, kMaxConnections,
                "of them from one other machine");
  flags->Time("head_timeout", &s->head_timeout,
              "for an HTTP head from its first byte, and for a gRPC message");
  flags->Time("body_timeout", &s->body_timeout, "for the body of an HTTP request");
  flags->Time("write_timeout", &s->write_timeout, "how long a client may read nothing");
  flags->Time("idle_timeout", &s->idle_timeout, "between requests of an HTTP connection");
}

// What is kept of single requests.
void AddRequestWatchFlags(FlagList* flags, GatewaySettings* s) {
  flags->Section("Watching");
  flags->Text("otlp_endpoint", &s->otlp_endpoint,
              "OpenTelemetry collector that gets a trace of each generation (OTLP over HTTP), such "
              "as http://127.0.0.1:4318/v1/traces; without it nothing is traced");
  flags->Section("Logs");
  flags->Switch("access_log", &s->access_log,
                "log every HTTP request and gRPC call, with its id, status and time");
  flags->Switch("log_prompts", &s->log_prompts,
                "the access log has the bodies of requests, too: what people write to the model");
}

}  // namespace

void AddGatewayFlags(FlagList* flags, GatewaySettings* s) {
  flags->Section("Ports and access");
  flags->Text("http", &s->http,
              "where the OpenAI API listens: host:port (port 0: any free one) or unix:/path");
  flags->Text("grpc", &s->grpc, "where the gRPC API listens: host:port or unix:/path");
  flags->Path("api_key_file", &s->api_key_file,
              "file with the API keys that clients must show (tandem key makes it); needed, as is "
              "TLS, to listen on addresses that other machines reach");
  flags->Path("tls_cert", &s->tls_cert,
              "PEM file with the certificate of both ports, and with those between it and its "
              "authority; read again when it changes");
  flags->Path("tls_key", &s->tls_key, "PEM file with the key of --tls_cert");
  flags->Path("tls_client_ca", &s->tls_client_ca,
              "PEM file with authorities: clients must show a certificate of one of them");
  flags->Switch("insecure", &s->insecure,
                "listen also on addresses that other machines reach without an API key or TLS");
  flags->Texts("allowed_hosts", &s->allowed_hosts,
               "names under which HTTP clients may ask, besides addresses, localhost and the name "
               "in --http; with commas; *: any");
  flags->Texts("cors_origins", &s->cors_origins,
               "web pages that may use the HTTP API from a browser, as https://host[:port], with "
               "commas; *: any");
  flags->Text("model_id", &s->model_id,
              "what the APIs call the model; without it: the model's own name");
  flags->Choice("unknown_fields", &s->unknown_fields,
                "fields of HTTP requests that nobody knows; ignored ones are named in a Warning "
                "header");
  flags->Section("Placement of the work");
  flags->Text(
      "plan", &s->plan,
      "auto, gpu, npu, split, hybrid or layers[:COUNT,COUNT...]; auto tries what the devices "
      "allow and takes the fastest; without it: auto with both devices, else the one there "
      "is");
  flags->Choices("edge_kinds", &s->edge_kinds,
                 "how workers may hand over to each other, in order of preference, with commas "
                 "(without it: all of them)");
  flags->Choice("activations", &s->activations,
                "activations in products with int8 and int4 weights; auto: as suits each device");
  flags->Number("steps_in_flight", &s->steps_in_flight, 1, 4,
                "steps that are sent before the first one's results are back");
  flags->Number(
      "micro_batches", &s->micro_batches, 0, 4,
      "most micro-batches of a step; 0: two where workers alternate (split, hybrid), else one");
  flags->Section("Memory and limits");
  flags->Number("context", &s->context, 0, kMaxContextTokens,
                "tokens of prompt and answer together, at most what the model was trained for; 0: "
                "8192, or less where the model has less");
  flags->Bytes("kv_memory", &s->kv_memory, 0, kMaxKvBytes,
               "memory of the KV cache over all layers; 0: what weights and scratch leave of a "
               "GPU's own memory, a quarter of what is available where it is the machine's");
  flags->Choice("kv_type", &s->kv_type, "keys and values in the cache");
  flags->Number("max_tokens_per_step", &s->max_tokens_per_step, 0, kMaxStepTokens,
                "tokens that one step computes; 0: 512, more where prompts have a route of their "
                "own, or what an embedding model's context has");
  flags->Number("max_sequences", &s->max_sequences, 0, kMaxStepSequences,
                "requests that run at a time; 0: 32");
  flags->Number("queue", &s->queue, 1, kMaxQueue,
                "requests that may wait; further ones are answered 429");
  AddClientLimitFlags(flags, &s->clients);
  flags->Section("Times");
  flags->Time("start_timeout", &s->start_timeout, "how long the loader may take to answer at all");
  flags->Time("recovery_timeout", &s->recovery_timeout,
              "how long running requests wait for a lost worker");
  flags->Time("shutdown_grace", &s->shutdown_grace,
              "how long running answers may go on after SIGTERM");
  AddRequestWatchFlags(flags, s);
}

void AddLoaderFlags(FlagList* flags, LoaderSettings* s) {
  flags->Section("Model");
  flags->Path("model", &s->model,
              "GGUF file, safetensors file or folder, or Hugging Face cache folder");
  flags->Choice("quant", &s->quant, "weights in memory");
}

void AddDeviceFlags(FlagList* flags, DeviceSettings* s) {
  flags->Section("Devices");
  flags->Text("npu", &s->npu,
              "what the npu-worker runs on: xrt (the NPU), cpu (the CPU device, by name only) or "
              "none; several with commas");
  flags->Text("gpu", &s->gpu,
              "Vulkan device: auto (a GPU), a part of a device's name or its number (tandem doctor "
              "shows both; a software driver such as llvmpipe runs only where it is named), or "
              "none; several with commas");
}

void AddCpuDeviceFlags(FlagList* flags, CpuDeviceSettings* s) {
  flags->Section("Devices");
  flags->Number("threads", &s->threads, 0, kMaxThreads,
                "threads of the CPU device; 0: one for each processor");
}

void AddNpuDeviceFlags(FlagList* flags, NpuDeviceSettings* s) {
  flags->Section("Devices");
  flags->Path("npu_kernels", &s->kernels,
              "folder of the NPU's kernels, which tools/tandem_npu_kernels.py builds; --npu=xrt "
              "needs it");
}

void AddVulkanDeviceFlags(FlagList* flags, VulkanDeviceSettings* s) {
  flags->Section("Devices");
  flags->Choice("gpu_weights", &s->weights,
                "how a GPU with unified memory takes weights (upload: where its driver refuses "
                "zero-copy)");
  flags->Choice("gpu_tuning", &s->tuning,
                "whether a GPU's worker measures how kernels are best shaped: auto does at its "
                "first start with a device that Tandem has no figures of, and keeps them");
  flags->Choice("gpu_chaining", &s->chaining,
                "whether dispatches on a GPU wait for each other themselves in steps of one token; "
                "auto: where that is known to be faster");
}

void AddClusterTlsFlags(FlagList* flags, ClusterTlsSettings* s) {
  flags->Section("Between hosts");
  flags->Path("cluster_cert", &s->cluster_cert,
              "PEM file with the certificate that a process shows to those of its cluster over "
              "TCP; read again when it changes");
  flags->Path("cluster_key", &s->cluster_key, "PEM file with the key of --cluster_cert");
  flags->Path("cluster_ca", &s->cluster_ca,
              "PEM file with the authority of the cluster's certificates");
}

void AddSandboxFlags(FlagList* flags, SandboxSettings* s) {
  flags->Section("Ports and access");
  flags->Switch("sandbox", &s->sandbox,
                "give up what a process does not need of the kernel (docs/security.md); "
                "--sandbox=false: where a driver or a debugger needs it");
}

void AddWatchFlags(FlagList* flags, WatchSettings* s) {
  flags->Section("Watching");
  flags->Switch("process_metrics", &s->process_metrics,
                "loader and workers serve /metrics on free loopback ports, too (tandem status "
                "shows them); the gateway shows all of it without");
}

void AddLogFlags(FlagList* flags, LogSettings* s) {
  flags->Section("Logs");
  flags->Choice("log_level", &s->level, "least important lines that are logged");
  flags->Choice("log_format", &s->format, "lines of text, or of JSON");
}

void AddClusterFlags(FlagList* flags, ClusterSettings* s) {
  AddLoaderFlags(flags, &s->loader);
  AddDeviceFlags(flags, &s->devices);
  AddCpuDeviceFlags(flags, &s->cpu);
  AddNpuDeviceFlags(flags, &s->npu);
  AddVulkanDeviceFlags(flags, &s->vulkan);
  AddGatewayFlags(flags, &s->gateway);
  AddClusterTlsFlags(flags, &s->tls);
  AddSandboxFlags(flags, &s->sandbox);
  AddWatchFlags(flags, &s->watch);
  AddLogFlags(flags, &s->log);
}

}  // namespace tandem
