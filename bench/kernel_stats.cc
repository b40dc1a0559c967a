// Compiles every kernel and prints what the driver says of the machine code: registers, spills,
// waves, and how many instructions of some kinds there are where it gives the assembly. Nothing
// runs, so the device need not be there; for the Radeon 780M (RDNA3), with Mesa 25:
//
//   RADV_FORCE_FAMILY=phoenix NODEVICE_SELECT=1
//   VK_ICD_FILENAMES=/usr/share/vulkan/icd.d/radeon_icd.x86_64.json kernel_stats
//
// With an argument, kernels alone whose names contain it. Needs
// VK_KHR_pipeline_executable_properties.

#include <vulkan/vulkan.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/kernels/kernel_table.h"
#include "gpu-worker/stage/tile_attention.h"
#include "gpu-worker/stage/tuning.h"
#include "gpu-worker/vulkan/instance.h"
#include "gpu-worker/vulkan/kernel_features.h"
#include "gpu-worker/vulkan/physical_device.h"
#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using vulkan::Structure;
using vulkan::ToStatus;
using Constants = std::vector<std::uint32_t>;

constexpr std::uint32_t kAmd = 0x1002;

// Specialisation constants as a 27B model gets them on an integrated AMD GPU; several where a
// kernel comes in several shapes, none where such a GPU does not take it.
std::vector<Constants> ConstantsOf(const std::string& kernel) {
  vulkan::PhysicalDevice amd;
  amd.vendor_id = kAmd;
  amd.type = VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
  amd.limits.maxComputeWorkGroupInvocations = 1024;
  amd.limits.maxComputeSharedMemorySize = 65536;
  const Tuning tuning = TuningFor(amd);
  if (kernel.starts_with("matvec_")) {
    const bool bf16 = kernel.ends_with("bf16");
    const std::uint32_t block_vecs = bf16 ? 2 : (kernel.ends_with("int8") ? 4 : 8);
    std::vector<Constants> all;
    for (const std::uint32_t tokens : {1u, 8u}) {
      const MatvecShape shape = ChooseMatvecShape(bf16 ? tuning.matvec_bf16 : tuning.matvec_packed,
                                                  21504, 5376 / 4 / block_vecs, block_vecs, tokens);
      all.push_back({shape.group, shape.lanes, shape.rows, shape.tokens, 0, shape.tile_blocks});
    }
    return all;
  }
  if (kernel.starts_with("matmat_")) return {{0, 4}};
  if (kernel.starts_with("decode_")) {
    const DecodeTuning& decode = tuning.decode;
    Constants constants = {decode.threads, 32, 16, 128, 2, 32, 16, decode.unroll, 4, 1};
    if (kernel.ends_with("_chained")) constants.push_back(0);
    return {constants};
  }
  if (kernel.starts_with("dot_") && kernel.ends_with("_rows"))
    return {{64, 1, 0, 1}, {64, 8, 0, 1}};
  if (kernel.starts_with("dot_")) {
    const DotTuning& dot = tuning.dot;
    return {{dot.threads, dot.lanes, dot.loads, 1, 0}, {dot.threads, dot.lanes, dot.loads, 8, 0}};
  }
  if (kernel.starts_with("stream_")) {
    // As the tuner may find them to be the best.
    const std::uint32_t groups = 5376 / 32;
    const std::uint32_t parts = kernel.starts_with("stream_int8") ? 2 : 1;
    const std::uint32_t loads = groups / parts / 32 + 1;
    if (!kernel.ends_with("_chained")) return {{256, 32, groups, parts, loads, 1024, 6, 0, 1}};
    std::vector<Constants> all;
    for (const std::uint32_t hold : {0u, 1u})
      all.push_back({512, 32, groups, parts, loads, 1024, 3, 0, 1, 0, hold});
    return all;
  }
  const TileHeads heads = {32, 16, 128};
  if (kernel.starts_with("attention_tile_")) return {PlainAttentionShape(heads).constants};
  if (kernel.starts_with("attention_matrix_")) {
    if (kernel.ends_with("_lean") != tuning.lean_attention) return {};
    return {MatrixAttentionShape(heads).constants};
  }
  if (kernel.starts_with("attention_")) return {{64, 32, 16, 128, 2}, {256, 32, 16, 128, 1}};
  if (kernel.starts_with("qkv_rope_")) return {{32, 16, 128, 1}};
  if (kernel.starts_with("rms_norm")) return {{tuning.norm_lanes, 0, 0, 3}};
  if (kernel == "logit_blocks") return {{64, 8}};
  if (kernel.starts_with("post_norm")) return {{tuning.norm_lanes, 0, 0, 1, 1, 3}};
  return {{}};
}

// A device that is never given work, with what kernels need and the one extension.
absl::StatusOr<VkDevice> OpenDevice(const vulkan::PhysicalDevice& physical) {
  std::printf("device %s\n", physical.name.c_str());
  const float priority = 1;
  auto queue = Structure<VkDeviceQueueCreateInfo>(VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO);
  queue.queueFamilyIndex = physical.compute_family;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  vulkan::KernelFeatures kernel_features(physical);
  auto features = Structure<VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR);
  features.pipelineExecutableInfo = VK_TRUE;
  features.pNext = kernel_features.chain();
  std::vector<const char*> extensions = kernel_features.extensions();
  extensions.push_back(VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);
  auto info = Structure<VkDeviceCreateInfo>(VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO);
  info.pNext = &features;
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queue;
  info.enabledExtensionCount = static_cast<std::uint32_t>(extensions.size());
  info.ppEnabledExtensionNames = extensions.data();
  VkDevice device = VK_NULL_HANDLE;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkCreateDevice(physical.handle, &info, nullptr, &device), "opening the device"));
  return device;
}

absl::StatusOr<VkPipelineLayout> MakeLayout(VkDevice device, const vulkan::ShaderCode& code) {
  std::vector<VkDescriptorSetLayoutBinding> bindings(code.bindings);
  for (std::uint32_t i = 0; i < code.bindings; ++i) {
    bindings[i] = {i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr};
  }
  auto set_info = Structure<VkDescriptorSetLayoutCreateInfo>(
      VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO);
  set_info.bindingCount = code.bindings;
  set_info.pBindings = bindings.data();
  VkDescriptorSetLayout set = VK_NULL_HANDLE;
  TANDEM_RETURN_IF_ERROR(ToStatus(vkCreateDescriptorSetLayout(device, &set_info, nullptr, &set),
                                  "creating a descriptor set layout"));
  const VkPushConstantRange push{VK_SHADER_STAGE_COMPUTE_BIT, 0, code.push_bytes};
  auto info = Structure<VkPipelineLayoutCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO);
  info.setLayoutCount = 1;
  info.pSetLayouts = &set;
  info.pushConstantRangeCount = 1;
  info.pPushConstantRanges = &push;
  VkPipelineLayout layout = VK_NULL_HANDLE;
  TANDEM_RETURN_IF_ERROR(ToStatus(vkCreatePipelineLayout(device, &info, nullptr, &layout),
                                  "creating a pipeline layout"));
  return layout;
}

absl::StatusOr<VkPipeline> Compile(VkDevice device, std::uint32_t subgroup_size,
                                   const vulkan::ShaderCode& code, const Constants& constants) {
  auto module_info =
      Structure<VkShaderModuleCreateInfo>(VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO);
  module_info.codeSize = code.spirv.size_bytes();
  module_info.pCode = code.spirv.data();
  VkShaderModule module = VK_NULL_HANDLE;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkCreateShaderModule(device, &module_info, nullptr, &module), "loading a kernel"));
  std::vector<VkSpecializationMapEntry> entries;
  for (std::uint32_t i = 0; i < constants.size(); ++i) entries.push_back({i, 4 * i, 4});
  const VkSpecializationInfo specialisation{static_cast<std::uint32_t>(entries.size()),
                                            entries.data(), 4 * constants.size(), constants.data()};
  auto info =
      Structure<VkComputePipelineCreateInfo>(VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO);
  info.flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR |
               VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR;
  info.stage = Structure<VkPipelineShaderStageCreateInfo>(
      VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO);
  info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  info.stage.module = module;
  info.stage.pName = "main";
  info.stage.pSpecializationInfo = &specialisation;
  auto subgroup = Structure<VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT>(
      VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT);
  subgroup.requiredSubgroupSize = subgroup_size;
  if (code.needs != vulkan::KernelNeeds::kNothing && subgroup_size != 0) {
    info.stage.pNext = &subgroup;
    info.stage.flags = VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT;
  }
  TANDEM_ASSIGN_OR_RETURN(info.layout, MakeLayout(device, code));
  VkPipeline pipeline = VK_NULL_HANDLE;
  TANDEM_RETURN_IF_ERROR(ToStatus(
      vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &info, nullptr, &pipeline), code.name));
  return pipeline;
}

std::string ValueOf(const VkPipelineExecutableStatisticKHR& statistic) {
  switch (statistic.format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:
      return statistic.value.b32 != 0 ? "yes" : "no";
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
      return std::to_string(statistic.value.i64);
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR:
      return std::to_string(statistic.value.u64);
    default:
      return std::to_string(statistic.value.f64);
  }
}

// The machine code as text; empty where the driver gives none.
absl::StatusOr<std::string> Assembly(VkDevice device, VkPipeline pipeline) {
  const auto read = reinterpret_cast<PFN_vkGetPipelineExecutableInternalRepresentationsKHR>(
      vkGetDeviceProcAddr(device, "vkGetPipelineExecutableInternalRepresentationsKHR"));
  auto which =
      Structure<VkPipelineExecutableInfoKHR>(VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR);
  which.pipeline = pipeline;
  std::uint32_t count = 0;
  TANDEM_RETURN_IF_ERROR(ToStatus(read(device, &which, &count, nullptr), "reading machine code"));
  std::vector<VkPipelineExecutableInternalRepresentationKHR> texts(
      count, Structure<VkPipelineExecutableInternalRepresentationKHR>(
                 VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR));
  TANDEM_RETURN_IF_ERROR(
      ToStatus(read(device, &which, &count, texts.data()), "reading machine code"));
  std::vector<std::string> buffers(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    buffers[i].resize(texts[i].dataSize);
    texts[i].pData = buffers[i].data();
  }
  TANDEM_RETURN_IF_ERROR(
      ToStatus(read(device, &which, &count, texts.data()), "reading machine code"));
  for (std::uint32_t i = 0; i < count; ++i) {
    if (texts[i].isText == VK_TRUE && std::string_view(texts[i].name) == "Assembly") {
      return buffers[i];
    }
  }
  return "";
}

// Instructions of AMD's by kind: those whose name begins like one of these.
struct Kind {
  const char* name;
  std::vector<std::string_view> begins;
};
const std::vector<Kind>& Kinds() {
  static const auto* const kinds = new std::vector<Kind>{
      {"dot", {"v_dot4_"}},
      {"wmma", {"v_wmma_"}},
      {"narrow",
       {"buffer_load_u8", "buffer_load_i8", "buffer_load_u16", "buffer_load_i16", "buffer_load_d16",
        "buffer_load_ubyte", "buffer_load_sbyte", "buffer_load_ushort", "buffer_load_sshort",
        "buffer_load_short", "global_load_u8", "global_load_u16", "global_load_d16"}},
      {"wide", {"buffer_load_b128", "buffer_load_dwordx4", "global_load_b128"}},
      {"scratch", {"scratch_"}}};
  return *kinds;
}

void PrintKinds(std::string_view assembly) {
  for (const Kind& kind : Kinds()) {
    std::size_t found = 0;
    for (const std::string_view begin : kind.begins) {
      for (std::size_t at = assembly.find(begin); at != assembly.npos;
           at = assembly.find(begin, at + begin.size())) {
        ++found;
      }
    }
    std::printf("  Count %s %zu", kind.name, found);
  }
}

absl::StatusOr<std::uint32_t> SubgroupOf(VkDevice device, VkPipeline pipeline) {
  const auto read = reinterpret_cast<PFN_vkGetPipelineExecutablePropertiesKHR>(
      vkGetDeviceProcAddr(device, "vkGetPipelineExecutablePropertiesKHR"));
  auto which = Structure<VkPipelineInfoKHR>(VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR);
  which.pipeline = pipeline;
  std::uint32_t count = 1;
  auto properties = Structure<VkPipelineExecutablePropertiesKHR>(
      VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR);
  const VkResult result = read(device, &which, &count, &properties);
  if (result != VK_INCOMPLETE) TANDEM_RETURN_IF_ERROR(ToStatus(result, "reading properties"));
  return properties.subgroupSize;
}

absl::Status Print(VkDevice device, VkPipeline pipeline) {
  const auto read = reinterpret_cast<PFN_vkGetPipelineExecutableStatisticsKHR>(
      vkGetDeviceProcAddr(device, "vkGetPipelineExecutableStatisticsKHR"));
  auto which =
      Structure<VkPipelineExecutableInfoKHR>(VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR);
  which.pipeline = pipeline;
  std::uint32_t count = 0;
  TANDEM_RETURN_IF_ERROR(ToStatus(read(device, &which, &count, nullptr), "reading statistics"));
  std::vector<VkPipelineExecutableStatisticKHR> statistics(
      count, Structure<VkPipelineExecutableStatisticKHR>(
                 VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR));
  TANDEM_RETURN_IF_ERROR(
      ToStatus(read(device, &which, &count, statistics.data()), "reading statistics"));
  for (const VkPipelineExecutableStatisticKHR& statistic : statistics) {
    std::printf("  %s %s", statistic.name, ValueOf(statistic).c_str());
  }
  TANDEM_ASSIGN_OR_RETURN(const std::uint32_t subgroup, SubgroupOf(device, pipeline));
  std::printf("  Subgroup size %u", subgroup);
  TANDEM_ASSIGN_OR_RETURN(const std::string assembly, Assembly(device, pipeline));
  if (!assembly.empty()) PrintKinds(assembly);
  std::printf("\n");
  std::fflush(stdout);
  return absl::OkStatus();
}

// Objects live until the program ends.
absl::Status Run(std::string_view part) {
  TANDEM_ASSIGN_OR_RETURN(const auto instance, vulkan::Instance::Create(false, nullptr));
  TANDEM_ASSIGN_OR_RETURN(const auto devices, vulkan::ListPhysicalDevices(instance->handle()));
  if (devices.empty()) return absl::NotFoundError("no Vulkan device");
  const vulkan::PhysicalDevice& physical = devices.front();
  TANDEM_ASSIGN_OR_RETURN(const VkDevice device, OpenDevice(physical));
  for (const vulkan::ShaderCode& code : kernels::All()) {
    if (code.name.find(part) == code.name.npos) continue;
    if (!physical.Has(code.needs)) {
      std::printf("%s: the device lacks what it needs\n", std::string(code.name).c_str());
      continue;
    }
    for (const Constants& constants : ConstantsOf(std::string(code.name))) {
      std::printf("%s {", std::string(code.name).c_str());
      for (const std::uint32_t constant : constants) std::printf(" %u", constant);
      std::printf(" }:");
      TANDEM_ASSIGN_OR_RETURN(const VkPipeline pipeline,
                              Compile(device, physical.required_subgroup, code, constants));
      TANDEM_RETURN_IF_ERROR(Print(device, pipeline));
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  const absl::Status status = tandem::Run(argc > 1 ? argv[1] : "");
  if (status.ok()) return 0;
  std::fprintf(stderr, "kernel_stats: %s\n", status.ToString().c_str());
  return 1;
}
