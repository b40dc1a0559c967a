// The stand-in for the kernel driver, loaded into a process with LD_PRELOAD: takes the calls on
// /dev/accel/accel0, and those on memory that it exported, and leaves all others alone. In a
// process that only imports such memory (a gpu-worker) it says that this is a dma-buf, as the
// kernel would. with_fake_npu.sh sets up the rest.
//   FAKE_AMDXDNA_MODEL      phoenix (default) or strix
//   FAKE_AMDXDNA_FAULTS     fault_plan.h
//   FAKE_AMDXDNA_PINNED     bytes of user pointers that may be pinned
//   FAKE_AMDXDNA_LOG        1: what is refused, and every command, to stderr
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "tests/fake_amdxdna/fake_driver.h"

namespace {

using tandem::npu::DeviceCopy;
using tandem::npu::FakeDriver;

constexpr char kDevice[] = "/dev/accel/accel0";

template <typename Function>
Function Real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

std::mutex& Lock() {
  static auto* lock = new std::mutex;
  return *lock;
}
// Open files of the device. Never destroyed: other threads may be inside at exit.
std::map<int, std::shared_ptr<FakeDriver>>& Files() {
  static auto* files = new std::map<int, std::shared_ptr<FakeDriver>>;
  return *files;
}

std::shared_ptr<FakeDriver> DriverOf(int fd) {
  if (fd < 0) return nullptr;
  const std::lock_guard lock(Lock());
  const auto found = Files().find(fd);
  return found == Files().end() ? nullptr : found->second;
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

int OpenDevice() {
  FakeDriver::Options options;
  const std::string model = Environment("FAKE_AMDXDNA_MODEL");
  if (model == "strix") options.model = FakeDriver::Model::kStrix;
  if (!options.faults.Parse(Environment("FAKE_AMDXDNA_FAULTS"))) {
    std::fprintf(stderr, "fake amdxdna: FAKE_AMDXDNA_FAULTS makes no sense\n");
    std::abort();
  }
  const std::string pinned = Environment("FAKE_AMDXDNA_PINNED");
  if (!pinned.empty()) options.pinned_limit = std::strtoull(pinned.c_str(), nullptr, 10);
  options.log = Environment("FAKE_AMDXDNA_LOG") == "1";
  const int fd = memfd_create("fake-accel0", MFD_CLOEXEC);
  if (fd < 0) return fd;
  const std::lock_guard lock(Lock());
  Files()[fd] = std::make_shared<FakeDriver>(std::move(options));
  return fd;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int mode = va_arg(arguments, int);
  va_end(arguments);
  if (std::strcmp(path, kDevice) == 0) return OpenDevice();
  return Real<int (*)(const char*, int, ...)>("open")(path, flags, mode);
}

int close(int fd) {
  std::shared_ptr<FakeDriver> driver;
  {
    const std::lock_guard lock(Lock());
    const auto found = Files().find(fd);
    if (found != Files().end()) {
      driver = std::move(found->second);
      Files().erase(found);
    }
  }
  return Real<int (*)(int)>("close")(fd);
}

int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  const std::shared_ptr<FakeDriver> driver = DriverOf(fd);
  if (driver == nullptr && request == DMA_BUF_IOCTL_SYNC && DeviceCopy::IsExported(fd)) return 0;
  if (driver == nullptr) {
    return Real<int (*)(int, unsigned long, ...)>("ioctl")(fd, request, argument);
  }
  const int error = driver->Ioctl(request, argument);
  if (error == 0) return 0;
  errno = -error;
  return -1;
}

void* mmap(void* address, std::size_t length, int protection, int flags, int fd, off_t offset) {
  const std::shared_ptr<FakeDriver> driver = DriverOf(fd);
  if (driver != nullptr) return driver->Map(address, length, protection, flags, offset);
  return Real<void* (*)(void*, std::size_t, int, int, int, off_t)>("mmap")(
      address, length, protection, flags, fd, offset);
}

int fstatfs(int fd, struct statfs* info) {
  const int result = Real<int (*)(int, struct statfs*)>("fstatfs")(fd, info);
  if (result == 0 && DeviceCopy::IsExported(fd)) info->f_type = DMA_BUF_MAGIC;
  return result;
}

}  // extern "C"
