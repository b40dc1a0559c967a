#include "npu-worker/xrt/xrt_status.h"

#include <cerrno>
#include <exception>
#include <new>
#include <string>
#include <system_error>

namespace tandem::npu {
namespace {

absl::StatusCode CodeOf(int error) {
  switch (error < 0 ? -error : error) {
    case ENODEV:
    case EIO:
    case ENXIO:
    case ECANCELED:
      return absl::StatusCode::kUnavailable;
    case ENOMEM:
    case ENOSPC:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    // What the driver says when all contexts are taken.
    case ENOENT:
      return absl::StatusCode::kResourceExhausted;
    case EINVAL:
    case EOPNOTSUPP:
      return absl::StatusCode::kInvalidArgument;
    case EACCES:
    case EPERM:
      return absl::StatusCode::kPermissionDenied;
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::Status Make(absl::StatusCode code, std::string_view doing, const char* what) {
  std::string text(doing);
  text.append(": ").append(what);
  return absl::Status(code, text);
}

}  // namespace

absl::Status StatusOfException(std::string_view doing) {
  try {
    throw;
  } catch (const std::system_error& e) {
    return Make(CodeOf(e.code().value()), doing, e.what());
  } catch (const std::bad_alloc& e) {
    return Make(absl::StatusCode::kResourceExhausted, doing, e.what());
  } catch (const std::exception& e) {
    return Make(absl::StatusCode::kInternal, doing, e.what());
  } catch (...) {
    return Make(absl::StatusCode::kInternal, doing, "an unknown exception");
  }
}

}  // namespace tandem::npu
