#include "lib/base/status_macros.h"

#include <gtest/gtest.h>

#include <memory>

namespace tandem {
namespace {

absl::StatusOr<std::unique_ptr<int>> Give(bool ok) {
  if (!ok) return absl::NotFoundError("nothing");
  return std::make_unique<int>(3);
}

absl::StatusOr<int> Use(bool ok) {
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<int> value, Give(ok));
  TANDEM_RETURN_IF_ERROR(absl::OkStatus());
  return *value;
}

absl::Status Pass(const absl::Status& status, bool* reached) {
  TANDEM_RETURN_IF_ERROR(status);
  *reached = true;
  return absl::OkStatus();
}

TEST(StatusMacrosTest, AssignOrReturn) {
  EXPECT_EQ(*Use(true), 3);
  EXPECT_EQ(Use(false).status(), absl::NotFoundError("nothing"));
}

TEST(StatusMacrosTest, ReturnIfError) {
  bool reached = false;
  EXPECT_EQ(Pass(absl::AbortedError("x"), &reached), absl::AbortedError("x"));
  EXPECT_FALSE(reached);
  EXPECT_TRUE(Pass(absl::OkStatus(), &reached).ok());
  EXPECT_TRUE(reached);
}

TEST(StatusMacrosTest, AnnotateKeepsTheCode) {
  EXPECT_EQ(Annotate(absl::NotFoundError("x"), "file"), absl::NotFoundError("file: x"));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "file").ok());
}

TEST(StatusMacrosDeathTest, CheckAborts) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(TANDEM_CHECK(1 + 1 == 3), "check failed: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace tandem
