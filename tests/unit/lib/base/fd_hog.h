#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <vector>

#include "lib/base/fd.h"

namespace tandem {

// Takes every descriptor this process may have, until it is destroyed. With `free_ones` that many
// stay free.
class FdHog {
 public:
  explicit FdHog(std::size_t free_ones = 0) {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    rlimit low = before_;
    low.rlim_cur = 256;
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
    while (true) {
      UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (!fd.valid()) break;
      held_.push_back(std::move(fd));
    }
    EXPECT_EQ(errno, EMFILE);
    for (std::size_t i = 0; i < free_ones; ++i) held_.pop_back();
  }
  ~FdHog() {
    held_.clear();
    ::setrlimit(RLIMIT_NOFILE, &before_);
  }
  FdHog(const FdHog&) = delete;
  FdHog& operator=(const FdHog&) = delete;

 private:
  rlimit before_{};
  std::vector<UniqueFd> held_;
};

}  // namespace tandem
