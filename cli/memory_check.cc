#include "cli/memory_check.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lib/base/dma_buf.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;
using Verdict = CheckRow::Verdict;

constexpr std::uint64_t kDefaultLimitMib = 64;

std::string FirstLine(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return std::string(absl::StripAsciiWhitespace(line));
}

struct AmdGpu {
  std::string card;
  std::uint64_t gtt_bytes = 0;
};

std::vector<AmdGpu> AmdGpus(const std::string& root) {
  std::vector<AmdGpu> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root + "/sys/class/drm", error)) {
    const std::string device = entry.path().string() + "/device";
    const std::string name = entry.path().filename().string();
    // card0, and not its connectors (card0-HDMI-A-1) or render node.
    if (name.rfind("card", 0) != 0 || name.find('-') != std::string::npos) continue;
    if (FirstLine(device + "/vendor") != "0x1002") continue;
    AmdGpu gpu{name, 0};
    if (!absl::SimpleAtoi(FirstLine(device + "/mem_info_gtt_total"), &gpu.gtt_bytes))
      gpu.gtt_bytes = 0;
    found.push_back(gpu);
  }
  return found;
}

// Who may open the node, and how to become one of them.
std::string PermissionAdvice(const struct stat& node) {
  const group* owner = ::getgrgid(node.st_gid);
  const std::string name = owner == nullptr ? absl::StrCat(node.st_gid) : owner->gr_name;
  const bool group_may = (node.st_mode & 0060) == 0060 && node.st_gid != 0;
  if (group_may) return absl::StrCat("sudo usermod -aG ", name, " $USER, and log in again");
  return "echo 'KERNEL==\"udmabuf\", GROUP=\"kvm\", MODE=\"0660\"' | sudo tee "
         "/etc/udev/rules.d/70-udmabuf.rules && sudo udevadm control --reload && sudo udevadm "
         "trigger /dev/udmabuf && sudo usermod -aG kvm $USER, and log in again";
}

CheckRow NodeRow(const std::string& root, bool amd, bool* usable) {
  const std::string node = root + kUdmabufNode;
  // An AMD GPU imports nothing else; the others have other ways.
  const Verdict bad = amd ? Verdict::kMissing : Verdict::kNote;
  struct stat info;
  if (::stat(node.c_str(), &info) != 0) {
    return {bad, absl::StrCat(kUdmabufNode, " is not there: ",
                              amd ? "the GPU cannot use weights and edges where they are"
                                  : "edges use host pointers",
                              " (sudo modprobe udmabuf; for good: echo udmabuf | sudo tee "
                              "/etc/modules-load.d/udmabuf.conf)")};
  }
  if (::access(node.c_str(), R_OK | W_OK) != 0) {
    return {bad, absl::StrCat(kUdmabufNode, " cannot be opened (", std::strerror(errno),
                              "): ", PermissionAdvice(info))};
  }
  *usable = true;
  return {Verdict::kGood, absl::StrCat(kUdmabufNode, ": shared memory can become dma-bufs")};
}

CheckRow LimitRow(const std::string& root) {
  std::uint64_t mib = 0;
  const std::string limit = FirstLine(root + kUdmabufLimitFile);
  const bool known = absl::SimpleAtoi(limit, &mib) && mib != 0;
  if (!known) mib = kDefaultLimitMib;
  const std::string text =
      absl::StrCat("udmabuf: size_limit_mb ", known ? "" : "unknown, by default ", mib,
                   ": weights are cut into dma-bufs of this size");
  if (mib >= kDefaultLimitMib) return {Verdict::kGood, text};
  return {Verdict::kNote, absl::StrCat(text, "; the rings of large models are larger (echo ",
                                       kDefaultLimitMib, " | sudo tee ", kUdmabufLimitFile, ")")};
}

CheckRow GttRow(const AmdGpu& gpu) {
  if (gpu.gtt_bytes == 0)
    return {Verdict::kNote, absl::StrCat(gpu.card, ": the size of its GTT is unknown")};
  return {Verdict::kNote,
          absl::StrFormat("%s: GTT %.1f GB: weights, edges and KV cache must fit into it (more, in "
                          "pages of 4 KiB: echo 'options ttm pages_limit=PAGES' | sudo tee "
                          "/etc/modprobe.d/ttm.conf && sudo update-initramfs -u, and restart)",
                          gpu.card, static_cast<double>(gpu.gtt_bytes) / 1e9)};
}

}  // namespace

std::vector<CheckRow> CheckSharedMemory(const std::string& root) {
  const std::vector<AmdGpu> gpus = AmdGpus(root);
  bool usable = false;
  std::vector<CheckRow> rows{NodeRow(root, !gpus.empty(), &usable)};
  if (usable) rows.push_back(LimitRow(root));
  for (const AmdGpu& gpu : gpus) rows.push_back(GttRow(gpu));
  return rows;
}

}  // namespace tandem
