#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "cli/commands.h"
#include "cli/memory_check.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

void Print(const char* verdict, const std::string& what) {
  std::printf("  [%s] %s\n", verdict, what.c_str());
}
void Good(const std::string& what) { Print(" ok ", what); }
void Missing(const std::string& what) { Print("miss", what); }
void Note(const std::string& what) { Print("note", what); }

std::string FirstLine(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return std::string(absl::StripAsciiWhitespace(line));
}

// Runs one of our own programs and gives its output lines; standard error is left to the person.
std::vector<std::string> Output(const std::string& command, int* exit_status) {
  std::vector<std::string> lines;
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) {
    *exit_status = -1;
    return lines;
  }
  std::string text;
  std::array<char, 4096> buffer;
  for (std::size_t got = 0; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    text.append(buffer.data(), got);
  *exit_status = ::pclose(pipe);
  // The programs put tabs between fields.
  const std::string shown = absl::StrReplaceAll(text, {{"\t", ", "}});
  for (const auto line : absl::StrSplit(shown, '\n', absl::SkipEmpty())) lines.emplace_back(line);
  return lines;
}

std::uint64_t MemInfoBytes(const std::string& key) {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(": "), absl::SkipEmpty());
    std::uint64_t value = 0;
    if (words.size() >= 2 && words[0] == key && absl::SimpleAtoi(words[1], &value))
      return words.size() == 3 ? value * 1024 : value;
  }
  return 0;
}

enum class Gpu { kNone, kSoftware, kHardware };

// The best that --gpu could take.
Gpu CheckGpu(const std::string& folder) {
  std::printf("GPU (gpu-worker, Vulkan)\n");
  int status = 0;
  const std::vector<std::string> lines =
      Output("'" + folder + "/tandem-gpu-worker' --list_devices", &status);
  Gpu best = Gpu::kNone;
  for (const std::string& line : lines) {
    if (absl::EndsWith(line, ", usable")) {
      best = Gpu::kHardware;
      Good(line);
    } else {
      if (best == Gpu::kNone && absl::StrContains(line, ", software, ")) best = Gpu::kSoftware;
      Note(line);
    }
  }
  if (status != 0 || lines.empty()) {
    Missing(
        "no Vulkan device was found: install a driver (mesa-vulkan-drivers for AMD and for the "
        "software renderer)");
  } else if (best != Gpu::kHardware) {
    Missing("no GPU that Tandem can use: --gpu auto would find none");
  }
  return best;
}

bool CheckNpu(const std::string& folder) {
  std::printf("NPU (npu-worker, XRT)\n");
  bool found = false;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/bus/pci/drivers/amdxdna", error)) {
    const std::string name = FirstLine(entry.path().string() + "/vbnv");
    if (name.empty()) continue;
    found = true;
    Good(absl::StrCat(name, " at ", entry.path().filename().string(), ", firmware ",
                      FirstLine(entry.path().string() + "/fw_version")));
  }
  if (!found) {
    Missing(std::filesystem::exists("/sys/module/amdxdna")
                ? "the driver amdxdna is loaded, but it found no NPU"
                : "no NPU: the kernel driver amdxdna is not loaded (Linux 6.14 or newer on a Ryzen "
                  "AI machine)");
  }
  if (found && ::access("/dev/accel/accel0", R_OK | W_OK) != 0)
    Missing("/dev/accel/accel0 cannot be opened: join the group that owns it (render)");
  int status = 0;
  // With a device that needs no hardware the program only says what it was built with.
  const std::vector<std::string> lines =
      Output("'" + folder + "/tandem-npu-worker' --list_devices", &status);
  for (const std::string& line : lines) Note(line);
  return found;
}

void CheckMemory() {
  std::printf("Memory\n");
  const double available = static_cast<double>(MemInfoBytes("MemAvailable")) / 1e9;
  Good(absl::StrFormat("%.1f GB available of %.1f GB", available,
                       static_cast<double>(MemInfoBytes("MemTotal")) / 1e9));
  const std::vector<std::pair<const char*, double>> sizes = {{"1B int4", 1.0},
                                                             {"4B int4", 3.0},
                                                             {"12B int4", 8.0},
                                                             {"27B int4", 17.0},
                                                             {"27B int8", 31.0}};
  std::string fits;
  for (const auto& [name, gigabytes] : sizes) {
    if (gigabytes < available) absl::StrAppend(&fits, fits.empty() ? "" : ", ", name);
  }
  Note(absl::StrCat("Gemma 3 that fits, KV cache counted in roughly: ",
                    fits.empty() ? "none" : fits));
  const std::uint64_t huge = MemInfoBytes("HugePages_Free");
  if (huge > 0) {
    Good(absl::StrCat(huge, " free huge pages of 2 MiB"));
  } else {
    Note(
        "no huge pages are reserved (vm.nr_hugepages); weights use those that the kernel makes "
        "(Linux "
        "6.1 and newer), else ordinary pages");
  }
}

void CheckDmaBufs() {
  for (const CheckRow& row : CheckSharedMemory("")) {
    switch (row.verdict) {
      case CheckRow::Verdict::kGood:
        Good(row.text);
        break;
      case CheckRow::Verdict::kNote:
        Note(row.text);
        break;
      case CheckRow::Verdict::kMissing:
        Missing(row.text);
        break;
    }
  }
}

void CheckLimits() {
  std::printf("Limits and kernel\n");
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max < 1024) {
    Missing(absl::StrCat("at most ", files.rlim_max,
                         " open files: expected 1024 or more (a region of weights is one)"));
  } else {
    Good(absl::StrCat(files.rlim_max, " open files"));
  }
  rlimit locked{};
  ::getrlimit(RLIMIT_MEMLOCK, &locked);
  Note(locked.rlim_max == RLIM_INFINITY
           ? std::string("locked memory unlimited")
           : absl::StrCat("locked memory limited to ", locked.rlim_max >> 20,
                          " MiB; an NPU needs it unlimited (ulimit -l)"));
  utsname kernel{};
  ::uname(&kernel);
  Good(absl::StrCat("Linux ", kernel.release, ", ", std::thread::hardware_concurrency(), " cores"));
}

}  // namespace

int CommandDoctor() {
  const absl::StatusOr<std::string> folder = ProgramFolder();
  if (!folder.ok()) return Fail(folder.status());
  const Gpu gpu = CheckGpu(*folder);
  const bool npu = CheckNpu(*folder);
  CheckMemory();
  CheckDmaBufs();
  CheckLimits();
  std::printf("What would run where\n");
  if (gpu == Gpu::kHardware && npu) {
    Good(
        "tandem up --model PATH --npu xrt --gpu auto   (plan auto: measures both devices at the "
        "first start and takes the fastest plan)");
  } else if (gpu == Gpu::kHardware) {
    Good("tandem up --model PATH   (plan gpu: everything on the first device above)");
    Note(
        "tandem up --model PATH --npu cpu --plan split   (the NPU's part on the CPU, because you "
        "name it)");
  } else {
    Note(
        "tandem up --model PATH --gpu none --npu cpu   (plan npu: everything on the CPU, because "
        "you name it)");
    if (gpu == Gpu::kSoftware) {
      Note(
          "tandem up --model PATH --gpu llvmpipe   (plan gpu: everything on the software driver, "
          "slowly, because you name it)");
    }
  }
  return 0;
}

}  // namespace tandem
