#include "gateway/ingress/auth.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace tandem {
namespace {

class KeyFile {
 public:
  explicit KeyFile(const std::string& text) {
    folder_ = ::testing::TempDir() + "tandem-auth-XXXXXX";
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/keys";
    std::ofstream(path_) << text;
  }
  ~KeyFile() {
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  std::string folder_;
  std::string path_;
};

TEST(ApiKeys, WithoutKeysEverybodyMayCall) {
  EXPECT_FALSE(ApiKeys().required());
  EXPECT_TRUE(ApiKeys().Check("").ok());
}

TEST(ApiKeys, ChecksTheBearerToken) {
  const auto keys = ApiKeys::Create({"first", "second"});
  ASSERT_TRUE(keys.ok());
  EXPECT_TRUE(keys->Check("Bearer first").ok());
  EXPECT_TRUE(keys->Check("bearer  second ").ok());
  for (const char* bad : {"", "first", "Bearer", "Bearer ", "Bearer firs", "Bearer firstfirst",
                          "Bearer firsu", "Basic first", "Bearer first second"}) {
    EXPECT_TRUE(absl::IsUnauthenticated(keys->Check(bad))) << bad;
  }
}

TEST(ApiKeys, ReadsAFile) {
  const KeyFile file("# keys\n\n  alpha\nbeta\r\n");
  const auto keys = ApiKeys::ReadFile(file.path());
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_TRUE(keys->Check("Bearer alpha").ok());
  EXPECT_TRUE(keys->Check("Bearer beta").ok());
  EXPECT_FALSE(keys->Check("Bearer gamma").ok());
}

TEST(ApiKeys, RefusesFilesWithoutUsableKeys) {
  EXPECT_TRUE(absl::IsNotFound(ApiKeys::ReadFile("/nonexistent/keys").status()));
  for (const char* text : {"", "# only a comment\n", "two words\n", "tab\there\n"}) {
    const KeyFile file(text);
    const absl::Status status = ApiKeys::ReadFile(file.path()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_NE(status.message().find("keys"), absl::string_view::npos);
  }
}

}  // namespace
}  // namespace tandem
